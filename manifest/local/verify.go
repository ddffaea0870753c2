package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/verify"
)

// verifying returns a reader of r that ends with ctx. Content that does not match want
// ends with [manifest.ErrMismatch] in place of io.EOF. It does not close r.
func verifying(ctx context.Context, r io.Reader, want v1.Descriptor) (io.Reader, error) {
	v, err := verify.NewReader(r, want.Digest, want.Size)
	if err != nil {
		return nil, err
	}
	return stream.ReadAlive(ctx, stream.MapError(v, func(err error) error {
		if errors.Is(err, verify.ErrMismatch) {
			err = mismatch("%w", err)
		}
		return err
	})), nil
}

// small reads a manifest or config whole and verifies it. The bound is checked by the
// descriptor before anything is read, so a false size costs no memory.
func small(ctx context.Context, open func() (io.ReadCloser, error), d v1.Descriptor) (_ []byte, err error) {
	if d.Size < 0 || d.Size > maxManifest {
		return nil, mismatch("%s: a manifest or config of %d bytes", d.Digest, d.Size)
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	v, err := verifying(ctx, r, d)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return raw, nil
}
