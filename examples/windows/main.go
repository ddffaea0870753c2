//go:build windows

// Windows prints its platform. It builds only for Windows.
package main

import "os"

func main() { _, _ = os.Stdout.WriteString("hello from windows\n") }
