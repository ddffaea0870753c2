// Api is one of several programs.
package main

import "os"

func main() { _, _ = os.Stdout.WriteString("api\n") }
