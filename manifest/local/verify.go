package local

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A verified reader hands on what it reads and ends with an error of
// [manifest.ErrMismatch] rather than io.EOF when that is not what want says.
type verified struct {
	ctx  context.Context
	r    io.Reader
	want v1.Descriptor
	hash hash.Hash
	got  int64
}

func verify(ctx context.Context, r io.Reader, want v1.Descriptor) (*verified, error) {
	hasher, err := v1.Hasher(want.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	return &verified{ctx: ctx, r: r, want: want, hash: hasher}, nil
}

func (v *verified) Read(p []byte) (int, error) {
	if v.ctx.Err() != nil {
		return 0, context.Cause(v.ctx)
	}
	n, err := v.r.Read(p)
	_, _ = v.hash.Write(p[:n]) // a hash never fails
	v.got += int64(n)
	if v.got > v.want.Size {
		return 0, mismatch("%s has more than %d bytes", v.want.Digest, v.want.Size)
	}
	if err == io.EOF {
		if v.got != v.want.Size {
			return n, mismatch("%s has %d of %d bytes", v.want.Digest, v.got, v.want.Size)
		}
		if is := hex.EncodeToString(v.hash.Sum(nil)); is != v.want.Digest.Hex {
			return n, mismatch("%s: the content has digest %s", v.want.Digest, is)
		}
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
	v, err := verify(ctx, r, d)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return raw, nil
}
