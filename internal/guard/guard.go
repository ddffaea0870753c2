// Package guard turns a panic into an error, so that a fault in the work for one image or
// program does not end the others.
//
// [Report] is called where work for one thing ends: an entry of a mirror and each of its
// images, a program of a push, a platform of a build, a hook. [Do] is called where such
// work starts a goroutine. A panic ends the process unless it is recovered in the
// goroutine that panicked, so Do recovers it there and returns it to the goroutine that
// waits.
//
// Not every failure is a panic: a concurrent map write that the runtime detects, a stack
// overflow and a lack of memory still end the process. Deferred functions of the work run
// before the panic becomes an error, so that locks and files are released if they are
// released with defer.
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
	Stack []byte // of the goroutine that panicked, as debug.Stack prints it
}

func (p *Panic) Error() string { return fmt.Sprintf("internal error: %v", p.Value) }

// Unwrap returns the value of the panic if that is an error, so that errors.Is and
// errors.As find it; otherwise nil.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Hint asks for a bug report with the stack, which only the debug log has.
func (p *Panic) Hint() string {
	return "this is a bug in mabuild: run it again with -v, and report it with the stack at https://github.com/mabuild/mabuild/issues"
}

// Do runs work in the calling goroutine and returns its error. A panic in work is
// returned as a [*Panic]. If the value of the panic is a *Panic already, it is returned
// as it is and keeps the stack of the goroutine that panicked first.
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

// Report runs work as [Do] does and logs the stack of a panic at level debug. what names
// the thing that the work was for, for example an image or a platform.
func Report(ctx context.Context, log *slog.Logger, what string, work func() error) error {
	err := Do(work)
	if p := (*Panic)(nil); errors.As(err, &p) {
		log.DebugContext(ctx, "internal error", "at", what, "value", fmt.Sprint(p.Value), "stack", string(p.Stack))
	}
	return err
}
