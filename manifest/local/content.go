package local

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// A store opens blobs. What it opens is not verified, except that it is a
// regular file of the descriptor's size.
type store interface {
	open(d v1.Descriptor) (io.ReadCloser, error)
	// has reports whether there is something of d's digest and size.
	has(d v1.Descriptor) bool
}

// read returns the content that d describes, its manifest verified.
func read(ctx context.Context, s store, d v1.Descriptor) (manifest.Content, error) {
	raw, err := small(ctx, func() (io.ReadCloser, error) { return s.open(d) }, d)
	if err != nil {
		return nil, err
	}
	return manifest.Open(d, raw, &fetcher{ctx, s, d})
}

// A fetcher reads what a manifest in a store names.
type fetcher struct {
	ctx   context.Context // under which all is read, as Get promises
	store store
	own   v1.Descriptor // of the manifest
}

var _ manifest.Fetcher = (*fetcher)(nil)

func (f *fetcher) Name(h v1.Hash) string { return h.String() }

// Child reads an image or index. What is neither by its media type is read as it is.
func (f *fetcher) Child(d v1.Descriptor) (manifest.Content, error) {
	if d.MediaType.IsImage() || d.MediaType.IsIndex() || d.MediaType == "" && d.Platform != nil {
		return read(f.ctx, childStore{f.store, f}, d)
	}
	raw, err := f.Config(d)
	if err != nil {
		return nil, err
	}
	return manifest.Uninterpreted(d, raw, func(d v1.Descriptor) (manifest.Content, error) { return read(f.ctx, f.store, d) })
}

// Config reads a config whole, bounded.
func (f *fetcher) Config(d v1.Descriptor) ([]byte, error) {
	return small(f.ctx, func() (io.ReadCloser, error) { return f.store.open(d) }, d)
}

// Blob reads a layer as it is.
func (f *fetcher) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := f.store.open(d)
	if err != nil {
		return nil, err
	}
	v, err := verifying(f.ctx, r, d)
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return closing{v, r}, nil
}
