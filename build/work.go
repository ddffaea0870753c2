package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mabuild/mabuild/internal/cache"
)

// A WorkError says that the work directory cannot be used.
type WorkError struct {
	Dir string
	Err error
}

func (e *WorkError) Error() string { return fmt.Sprintf("work directory %s: %v", e.Dir, e.Err) }
func (e *WorkError) Unwrap() error { return e.Err }

// Hint returns the way out.
func (e *WorkError) Hint() string { return "set TMPDIR to use another directory" }

// cramped returns a [*WorkError] if the work directory has no room, which neither
// compilers nor linkers say clearly, and something failed that needs it.
func (b *Builder) cramped(ctx context.Context, errs []error) error {
	needed := false
	for _, err := range errs {
		var pe *PlatformError
		needed = needed || errors.As(err, &pe) && (pe.Step == "compile" || pe.Step == "layer")
	}
	if !needed || ctx.Err() != nil {
		return nil
	}
	err := cache.FreeSpaceIn(b.Work, programRoom)
	if err == nil {
		return nil
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) { // of a file that nobody knows
		err = pe.Err
	}
	return &WorkError{Dir: b.Work, Err: err}
}
