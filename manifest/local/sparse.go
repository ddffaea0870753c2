package local

import (
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

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
		d := n.Descriptor
		switch {
		case manifest.IsAttestation(d) && !f.holds(d):
			lacks[d.Annotations[manifest.AnnotationReferenceDigest]] = true
		case !manifest.IsAttestation(d) && platform.FromV1(d.Platform).OS != "":
			images = append(images, d)
		}
		return nil
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
