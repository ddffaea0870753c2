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
	text := fmt.Sprintf("blob %s is not there: %s", e.digest, manifest.ErrMismatch)
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
	return "not every platform of the index was exported; whole are --platforms " + strings.ReplaceAll(platform.Keys(e.whole), ", ", ",")
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

// whole lists the platforms of an index whose blobs are all there, sorted. Layers that
// may not be distributed need not be.
func (x *index) whole(depth int) (list []ocispec.Platform) {
	for _, d := range x.parsed.Manifests {
		if depth > maxDepth || !x.store.has(d) || manifest.IsAttestation(d) {
			continue
		}
		c, err := read(x.ctx, x.store, d)
		if err != nil {
			continue
		}
		switch c := c.(type) {
		case *index:
			list = append(list, c.whole(depth+1)...)
		case *image:
			needs := append([]v1.Descriptor{c.parsed.Config}, c.parsed.Layers...)
			if p := platform.FromV1(d.Platform); p.OS != "" && !slices.ContainsFunc(needs, func(d v1.Descriptor) bool {
				return d.MediaType.IsDistributable() && !x.store.has(d)
			}) {
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, platform.Compare)
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return platform.Key(a) == platform.Key(b) })
}
