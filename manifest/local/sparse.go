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

// An absentError says that a blob is missing that a manifest names. Exports of single
// platforms are like that: docker save and ctr export keep the whole index.
type absentError struct {
	place  string // may be empty
	digest v1.Hash
	whole  []ocispec.Platform // of the index around it, that lack nothing
}

func (e *absentError) Error() string {
	text := fmt.Sprintf("blob %s is missing: %s", e.digest, manifest.ErrMismatch)
	if e.place != "" {
		text = e.place + ": " + text
	}
	return text
}

func (e *absentError) Unwrap() error { return manifest.ErrMismatch }

// Hint names the platforms that are whole.
func (e *absentError) Hint() string {
	if len(e.whole) == 0 {
		return ""
	}
	return "not all platforms of the index were exported; complete are --platforms " + strings.ReplaceAll(platform.Keys(e.whole), ", ", ",")
}

func absent(place string, digest v1.Hash) error { return &absentError{place: place, digest: digest} }

// A childStore opens what an index lists, and says of what is missing which platforms
// of the index are whole.
type childStore struct {
	store
	of *index
}

func (s childStore) open(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := s.store.open(d)
	if missing := (*absentError)(nil); errors.As(err, &missing) && missing.whole == nil { // the outermost index is asked first
		missing.whole = s.of.whole(0)
	}
	return r, err
}

// whole lists the platforms of an index whose blobs are all there, sorted: those of the
// image and of its attestations, which go along with it.
func (x *index) whole(depth int) (list []ocispec.Platform) {
	if depth > maxDepth {
		return nil
	}
	about := map[string]bool{} // digests of images that lack an attestation
	for _, d := range x.parsed.Manifests {
		if manifest.IsAttestation(d) && !x.holds(d) {
			about[d.Annotations[manifest.AnnotationReferenceDigest]] = true
		}
	}
	for _, d := range x.parsed.Manifests {
		switch p := platform.FromV1(d.Platform); {
		case manifest.IsAttestation(d):
		case d.MediaType.IsIndex():
			if c, err := read(x.ctx, x.store, d); err == nil {
				list = append(list, c.(*index).whole(depth+1)...)
			}
		case p.OS != "" && !about[d.Digest.String()] && x.holds(d):
			list = append(list, p)
		}
	}
	slices.SortFunc(list, platform.Compare)
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return platform.Key(a) == platform.Key(b) })
}

// holds reports whether the image that d describes is there with its config and layers.
// Layers that are stored elsewhere need not be.
func (x *index) holds(d v1.Descriptor) bool {
	c, err := read(x.ctx, x.store, d)
	img, ok := c.(*image)
	if err != nil || !ok {
		return false
	}
	needs := append([]v1.Descriptor{img.parsed.Config}, img.parsed.Layers...)
	return !slices.ContainsFunc(needs, func(d v1.Descriptor) bool { return !manifest.Elsewhere(d) && !x.store.has(d) })
}
