package manifest

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest/platform"
)

// A Report says what a reference names and which platforms it runs on.
type Report struct {
	Ref       string          `json:"ref"`
	Digest    v1.Hash         `json:"digest"`
	MediaType types.MediaType `json:"mediaType"`
	Index     bool            `json:"index"`
	Platforms []Runnable      `json:"platforms"` // in the order of the index
}

// A Runnable is an image of a [Report].
type Runnable struct {
	Platform string          `json:"platform"` // as platform.Key has it; "" when nothing says which
	Digest   v1.Hash         `json:"digest"`
	Type     types.MediaType `json:"mediaType"`
	Notes    []string        `json:"notes,omitempty"` // "attested"
}

// Inspect reports what ref names. It reads an index alone, and of a single image
// the config too. The attestations of an index are a note on their subjects.
func Inspect(ctx context.Context, s Source, ref string) (*Report, error) {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := Describe(c)
	if err != nil {
		return nil, err
	}
	r := &Report{Ref: ref, Digest: d.Digest, MediaType: d.MediaType}
	switch c := c.(type) {
	case v1.ImageIndex:
		im, err := c.IndexManifest()
		if err != nil {
			return nil, err
		}
		r.Index, r.Platforms = true, runnables(im.Manifests)
		return r, nil
	case v1.Image:
		config, err := c.ConfigFile()
		if err != nil {
			return nil, err
		}
		r.Platforms = []Runnable{{Platform: platform.Key(platform.OfConfig(config)), Digest: d.Digest, Type: d.MediaType}}
		return r, nil
	}
	return nil, fmt.Errorf("%s is neither an image nor an index", ref)
}

// runnables lists the entries that run somewhere, with what the others say of
// them.
func runnables(entries []v1.Descriptor) []Runnable {
	list := []Runnable{}
	for _, d := range entries {
		if IsAttestation(d) {
			continue
		}
		r := Runnable{Digest: d.Digest, Type: d.MediaType}
		if d.Platform != nil {
			r.Platform = platform.Key(platform.FromV1(d.Platform))
		}
		if slices.ContainsFunc(entries, func(a v1.Descriptor) bool {
			return IsAttestation(a) && a.Annotations[AnnotationReferenceDigest] == d.Digest.String()
		}) {
			r.Notes = append(r.Notes, "attested")
		}
		list = append(list, r)
	}
	return list
}
