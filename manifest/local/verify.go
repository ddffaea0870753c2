package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/verify"
)

// A verified reader hands on what it reads and ends with an error of
// [manifest.ErrMismatch] rather than io.EOF when that is not what want says.
type verified struct {
	ctx context.Context
	r   *verify.Reader
}

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

// closing reads from one and closes another.
type closing struct {
	io.Reader
	io.Closer
}

// small reads a manifest or config whole, bounded and verified.
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
