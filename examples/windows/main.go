//go:build windows

// Windows says so. It builds for nothing else.
package main

import "os"

func main() { _, _ = os.Stdout.WriteString("hello from windows\n") }
