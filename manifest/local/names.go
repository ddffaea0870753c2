package local

import (
	"cmp"
	"context"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// A Holding is an image that a place holds, by one of its names.
type Holding struct {
	Name   string // in full, where the place says more than the tag; empty for none
	Digest v1.Hash
}

// Images lists the images of the layout that ref means, sorted: one where it names one,
// all for the empty one, an image of several names by each. What only refers to others
// is not among them, unless there is nothing else.
func (l *Layout) Images(ctx context.Context, ref string) ([]Holding, error) {
	im, err := l.index()
	if err != nil {
		return nil, err
	}
	return holdings(ctx, l.String(), im, l, ref)
}

// Images lists the images of the archive, as those of a [Layout].
func (a *Archive) Images(ctx context.Context, ref string) ([]Holding, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	return holdings(ctx, a.String(), t.index, t, ref)
}

func holdings(ctx context.Context, where string, im *ocispec.Index, s store, ref string) ([]Holding, error) {
	if ref != "" {
		d, name, err := pickNamed(ctx, where, im, s, ref)
		if err != nil {
			return nil, err
		}
		return []Holding{{name, d.Digest}}, nil
	}
	var list []Holding
	for _, e := range principal(ctx, s, im.Manifests) {
		d, err := descriptor(e)
		if err != nil {
			return nil, err
		}
		list = append(list, Holding{nameOf(e), d.Digest})
	}
	return sortHoldings(list), nil
}

func sortHoldings(list []Holding) []Holding {
	slices.SortFunc(list, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest.String(), b.Digest.String()))
	})
	return slices.Compact(list)
}

// nameOf returns the name that an entry of index.json has, empty for none: containerd's
// and Docker's, which is a full one, or else that of image-spec, annotations.md, which
// beside it is the tag alone.
func nameOf(d ocispec.Descriptor) string {
	return cmp.Or(d.Annotations[annotationImageName], d.Annotations[ocispec.AnnotationRefName])
}

// tagOf is the tag of a name, which may be nothing else.
func tagOf(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// sameName reports whether two names are spellings of one: what Docker Hub's images are
// called.
func sameName(a, b string) bool { return a == b || canonical(a) == canonical(b) }

// canonical spells a name that has a tag in one way.
func canonical(name string) string {
	r := manifest.CutReference(name)
	if r.Tag == "" || r.Digest != "" {
		return name
	}
	return r.Canonical().String()
}

// matching returns the elements of all that a name means: those that have it, or else
// those of which it is the tag.
func matching[E any](all []E, name string, namesOf func(E) []string) []E {
	var full, tagged []E
	for _, e := range all {
		names := namesOf(e)
		switch {
		case slices.ContainsFunc(names, func(n string) bool { return sameName(n, name) }):
			full = append(full, e)
		case slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ":"+name) }):
			tagged = append(tagged, e)
		}
	}
	if len(full) > 0 {
		return full
	}
	return tagged
}
