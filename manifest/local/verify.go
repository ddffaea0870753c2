package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/verify"
)

// A verified reader passes on what it reads until ctx ends. Content that does not match
// its descriptor ends with [manifest.ErrMismatch] in place of io.EOF.
type verified struct {
	ctx context.Context
	r   *verify.Reader
}

// verifying returns a reader that compares r with want. It does not close r.
func verifying(ctx context.Context, r io.Reader, want v1.Descriptor) (*verified, error) {
	v, err := verify.NewReader(r, want.Digest, want.Size)
	return &verified{ctx, v}, err
}

func (v *verified) Read(p []byte) (int, error) {
	if v.ctx.Err() != nil {
		return 0, context.Cause(v.ctx)
	}
	n, err := v.r.Read(p)
	if errors.Is(err, verify.ErrMismatch) {
		err = mismatch("%w", err)
	}
	return n, err
}

// closing reads from one value and closes another: a verifying reader and the file below
// it.
type closing struct {
	io.Reader
	io.Closer
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
