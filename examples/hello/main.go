// Hello prints the platform it runs on, and exits.
package main

import (
	"flag"
	"os"
	"runtime"
)

// version is set by -ldflags "-X main.version=…".
var version = "devel"

func main() {
	flag.Bool("version", false, "print the version too; it is printed anyway")
	flag.Parse()
	_, _ = os.Stdout.WriteString("hello " + version + " from " + runtime.GOOS + "/" + runtime.GOARCH + "\n")
}
