package build

import (
	"context"
	"errors"
	"io/fs"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
)

// cramped returns an error if the work directory has no room, which neither
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
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) { // of a temporary file; its name does not help
		err = pe.Err
	}
	return hint.New(hint.Build, "set TMPDIR to use another directory", "work directory %s: %w", b.Work, err)
}
