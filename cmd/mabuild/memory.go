package main

import (
	"os"
	"runtime/debug"
)

// memoryWanted is what a push takes of memory beside its program text, whatever its
// programs and bases weigh: a third is alive, the rest are blocks that are collected
// the sooner. It is no limit: a push of thousands of images takes more.
const memoryWanted = 32 << 20

// limitMemory leaves the machine's memory to the compilers. GOMEMLIMIT says otherwise.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryWanted)
	}
}
