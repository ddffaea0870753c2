package main

import (
	"errors"
	"os"
	"runtime/debug"
	"runtime/pprof"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
)

// profiles are the files of the hidden flags for profiles of mabuild itself, for its
// developers.
type profiles struct{ cpu, memory string }

// bind adds the flags.
func (p *profiles) bind(flags *pflag.FlagSet) {
	flags.StringVar(&p.cpu, "cpuprofile", "", "Write a CPU profile of mabuild to `FILE`")
	flags.StringVar(&p.memory, "memprofile", "", "Write an allocation profile of mabuild to `FILE`")
	for _, name := range []string{"cpuprofile", "memprofile"} {
		_ = flags.MarkHidden(name) // the flag exists
	}
}

// start begins the CPU profile; stop ends and writes both profiles. stop is not nil if
// err is nil, and does nothing without the flags.
func (p *profiles) start() (stop func() error, err error) {
	var cpu, memory *os.File
	if p.cpu != "" {
		if cpu, err = os.Create(p.cpu); err == nil {
			err = pprof.StartCPUProfile(cpu)
		}
	}
	if p.memory != "" && err == nil {
		memory, err = os.Create(p.memory)
	}
	if err != nil {
		pprof.StopCPUProfile()
		return nil, &hint.Error{Kind: hint.Usage, Err: err, Hint: "use files that can be written"}
	}
	return func() error {
		var errs []error
		if cpu != nil {
			pprof.StopCPUProfile()
			errs = append(errs, cpu.Close())
		}
		if memory != nil {
			errs = append(errs, pprof.Lookup("allocs").WriteTo(memory, 0), memory.Close())
		}
		return errors.Join(errs...)
	}, nil
}

// The soft limits on memory, in bytes. About a third of a push is live data, and half of what
// check has read; the rest is garbage that is collected earlier because of the limit. They are
// no bounds: a push of thousands of images uses more, at the cost of more garbage collections.
const (
	memoryOfPush  = 32 << 20
	memoryOfCheck = 112 << 20
)

// limitMemory sets the soft limit, to leave the machine's memory to other programs, such as
// compilers. GOMEMLIMIT takes precedence.
func limitMemory(limit int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}
