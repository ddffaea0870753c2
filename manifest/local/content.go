package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/verify"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
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

// An AbsentError says that a blob is missing that a manifest names. Exports of single
// platforms are like that: docker save and ctr export keep the whole index.
type AbsentError struct {
	Place    string // may be empty
	Digest   v1.Hash
	Complete []ocispec.Platform // of the index around it: the platforms that lack nothing
}

func (e *AbsentError) Error() string {
	text := fmt.Sprintf("blob %s is missing: %s", e.Digest, manifest.ErrMismatch)
	if e.Place != "" {
		text = e.Place + ": " + text
	}
	return text
}

func (e *AbsentError) Unwrap() error { return manifest.ErrMismatch }

func absent(place string, digest v1.Hash) error { return &AbsentError{Place: place, Digest: digest} }

// open implements blobStore, for the children of an index. To the error of a missing blob it
// adds which platforms of the index are complete, which costs the reading of their
// manifests. Fetchers of nested indexes call each other, and the outermost index is the
// first to complete the error: its platforms are those that a user can select.
func (f *fetcher) open(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := f.store.open(d)
	// The index was read before, so a failure here only costs the hint.
	if missing := (*AbsentError)(nil); errors.As(err, &missing) && missing.Complete == nil {
		if c, err := read(f.ctx, f.store, f.own); err == nil {
			missing.Complete = f.whole(c)
		}
	}
	return r, err
}

// has implements blobStore.
func (f *fetcher) has(d v1.Descriptor) bool { return f.store.has(d) }

// whole lists the platforms of an index whose images are complete with their
// attestations, sorted. Attestations count because they are copied with the image.
func (f *fetcher) whole(idx manifest.Content) (list []ocispec.Platform) {
	lacks := map[string]bool{} // digests of images with an incomplete attestation
	var images []v1.Descriptor
	// A missing nested index ends the walk. What was found before is used.
	_ = manifest.Walk(idx, nil, func(n manifest.Node) error {
		e, err := manifest.Identify(n.Descriptor, nil)
		switch {
		case e.Kind == manifest.KindAttestation && !f.holds(e.Descriptor):
			lacks[e.Subject] = true
		case e.Kind != manifest.KindAttestation && e.Platform.OS != "":
			images = append(images, e.Descriptor)
		}
		return err
	})
	for _, d := range images {
		if !lacks[d.Digest.String()] && f.holds(d) {
			list = append(list, platform.FromV1(d.Platform))
		}
	}
	slices.SortFunc(list, platform.Compare)
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return platform.Key(a) == platform.Key(b) })
}

// holds reports whether the store has the image that d describes, its config and its
// layers, except for layers that are not distributable. Only sizes are compared.
func (f *fetcher) holds(d v1.Descriptor) bool {
	c, err := read(f.ctx, f.store, d)
	img, ok := c.(v1.Image)
	if err != nil || !ok {
		return false
	}
	m, err := img.Manifest()
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(append(m.Layers, m.Config), func(d v1.Descriptor) bool { return !manifest.External(d) && !f.store.has(d) })
}
