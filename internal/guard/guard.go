// Package guard turns a panic into an error, so that a fault in the work for one image
// or program does not end the others.
//
// [Report] stands where work for one thing ends: an entry of a mirror and each of its
// images, a program of a push, a platform of a build, a hook. [Do] stands where such
// work starts a goroutine, since a panic is lost on all but its own: it hands the panic
// on as an error to the one who waits.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// A Panic is a panic that became an error.
type Panic struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

func (p *Panic) Error() string { return fmt.Sprintf("internal error: %v", p.Value) }

// Unwrap returns the value of the panic where that is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Hint asks for a report.
func (p *Panic) Hint() string {
	return "this is a bug in mabuild: run it again with -v, and report it with the stack at https://github.com/mabuild/mabuild/issues"
}

// Do runs work. A panic in it is returned as a [*Panic].
func Do(work func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			p, ok := value.(*Panic)
			if !ok {
				p = &Panic{value, debug.Stack()}
			}
			err = p
		}
	}()
	return work()
}

// Report runs work as [Do] does and logs the stack of a panic, at level debug, as that of
// what the work was for.
func Report(ctx context.Context, log *slog.Logger, what string, work func() error) error {
	err := Do(work)
	if p := (*Panic)(nil); errors.As(err, &p) {
		log.DebugContext(ctx, "internal error", "at", what, "value", fmt.Sprint(p.Value), "stack", string(p.Stack))
	}
	return err
}
