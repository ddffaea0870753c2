package local

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/manifest"
)

// A blobStore opens blobs by descriptor: a layout directory, an OCI archive, or a Docker
// archive. What it opens is not verified, except that it is a regular file with the size
// of the descriptor. It is safe for concurrent use.
type blobStore interface {
	// open opens a blob, which the caller closes. A missing blob is an absentError.
	open(d v1.Descriptor) (io.ReadCloser, error)
	// has reports whether there is a blob with this digest as its name and this size. It
	// reads nothing.
	has(d v1.Descriptor) bool
}

// read returns the content that d describes. Its manifest is read and verified now, all
// else when it is needed.
func read(ctx context.Context, s blobStore, d v1.Descriptor) (manifest.Content, error) {
	raw, err := small(ctx, func() (io.ReadCloser, error) { return s.open(d) }, d)
	if err != nil {
		return nil, err
	}
	return manifest.Open(d, raw, &fetcher{ctx, s, d})
}

// A fetcher is the [manifest.Fetcher] of content in a store, and the store of the children
// of an index.
type fetcher struct {
	ctx   context.Context // that of Get, under which all content is read
	store blobStore
	own   v1.Descriptor // of the manifest that names what is fetched
}

var _ manifest.Fetcher = (*fetcher)(nil)

func (f *fetcher) Name(h v1.Hash) string { return h.String() }

// Child reads a child. If its media type is neither that of an image nor that of an
// index, it is read whole, within the bound of a manifest.
func (f *fetcher) Child(d v1.Descriptor) (manifest.Content, error) {
	if d.MediaType.IsImage() || d.MediaType.IsIndex() || d.MediaType == "" && d.Platform != nil {
		return read(f.ctx, f, d)
	}
	raw, err := f.Config(d)
	if err != nil {
		return nil, err
	}
	return manifest.Uninterpreted(d, raw, func(d v1.Descriptor) (manifest.Content, error) { return read(f.ctx, f.store, d) })
}

// Config reads a config, at most maxManifest bytes.
func (f *fetcher) Config(d v1.Descriptor) ([]byte, error) {
	return small(f.ctx, func() (io.ReadCloser, error) { return f.store.open(d) }, d)
}

// Blob opens a layer as it is stored and verifies it while it is read.
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
	return stream.WithClose(v, r.Close), nil
}
