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

// A childStore opens what an index lists, and says of what is missing which platforms
// of the index are whole.
type childStore struct {
	store
	of *fetcher
}

func (s childStore) open(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := s.store.open(d)
	if missing := (*AbsentError)(nil); errors.As(err, &missing) && missing.Complete == nil { // the outermost index is asked first
		if c, err := read(s.of.ctx, s.store, s.of.own); err == nil {
			missing.Complete = s.of.whole(c)
		}
	}
	return r, err
}

// whole lists the platforms of an index whose blobs are all there, sorted: those of the
// image and of its attestations, which go along with it.
func (f *fetcher) whole(idx manifest.Content) (list []ocispec.Platform) {
	lacks := map[string]bool{} // digests of images that lack an attestation
	var images []v1.Descriptor
	_ = manifest.Walk(idx, func(n manifest.Node) error { // a nested index that is missing ends it: what was found counts
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

// holds reports whether the image that d describes is there with its config and layers.
// Layers that are stored elsewhere need not be.
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
