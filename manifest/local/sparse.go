package local

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file explains missing blobs. An export of one platform often keeps an index with
// all platforms; the error then says which platforms can be copied.

// An absentError says that a blob is missing which a manifest names. Exports of one
// platform are incomplete in this way: docker save and ctr export keep the whole index.
type absentError struct {
	ref    string // the place; may be empty
	digest v1.Hash
	whole  []ocispec.Platform // complete platforms of the index that lists the content
}

func (e *absentError) Error() string {
	text := fmt.Sprintf("blob %s is missing: %s", e.digest, manifest.ErrMismatch)
	if e.ref != "" {
		text = e.ref + ": " + text
	}
	return text
}

func (e *absentError) Unwrap() error { return manifest.ErrMismatch }

// Hint names the complete platforms, which can be selected.
func (e *absentError) Hint() string {
	if len(e.whole) == 0 {
		return ""
	}
	return "not all platforms of the index were exported; complete are --platforms " + strings.ReplaceAll(platform.Keys(e.whole), ", ", ",")
}

// absent returns the error for a blob that a place does not have.
func absent(place string, digest v1.Hash) error { return &absentError{ref: place, digest: digest} }

// A childStore opens the children of an index. To the error of a missing blob it adds
// which platforms of the index are complete, which costs the reading of their manifests.
type childStore struct {
	store
	of *fetcher
}

// open implements store. Stores of nested indexes call each other, and the outermost
// index is the first to complete the error: its platforms are those that a user can
// select.
func (s childStore) open(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := s.store.open(d)
	// The index was read before, so a failure here only costs the hint.
	if missing := (*absentError)(nil); errors.As(err, &missing) && missing.whole == nil {
		if c, err := read(s.of.ctx, s.store, s.of.own); err == nil {
			missing.whole = s.of.whole(c)
		}
	}
	return r, err
}

// whole lists the platforms of an index whose images are complete with their
// attestations, sorted. Attestations count because they are copied with the image.
func (f *fetcher) whole(idx manifest.Content) (list []ocispec.Platform) {
	lacks := map[string]bool{} // digests of images with an incomplete attestation
	var images []v1.Descriptor
	// A missing nested index ends the walk. What was found before is used.
	_ = manifest.Walk(idx, func(n manifest.Node) error {
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
