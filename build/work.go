package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mabuild/mabuild/internal/cache"
)

// A WorkError says that the work directory cannot be used, for example because its disk
// is full.
type WorkError struct {
	Dir string
	Err error
}

func (e *WorkError) Error() string { return fmt.Sprintf("work directory %s: %v", e.Dir, e.Err) }
func (e *WorkError) Unwrap() error { return e.Err }

// Hint returns what the user can do.
func (e *WorkError) Hint() string { return "set TMPDIR to use another directory" }

// cramped returns a [*WorkError] if a step that writes to the work directory has failed,
// and the directory has no free space. The errors of compilers and linkers do not say
// clearly that a disk is full.
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
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) { // of a temporary file; its name does not help
		err = pe.Err
	}
	return &WorkError{Dir: b.Work, Err: err}
}
