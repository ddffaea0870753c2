package main

import (
	"os"
	"runtime/debug"
)

// memoryWanted is the soft memory limit of a push, in bytes. About a third of it is live
// data; the rest is garbage that is collected earlier because of the limit. It is not a
// bound: a push of thousands of images uses more, at the cost of more garbage
// collections.
const memoryWanted = 32 << 20

// limitMemory sets the soft limit, to leave the machine's memory to the compilers.
// GOMEMLIMIT takes precedence.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryWanted)
	}
}
