package local

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/imageref"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// This file compares names. One image has several spellings (app:v1,
// docker.io/library/app:v1), and tools differ in which annotation of index.json they
// write.

// A Holding is an image of a place with one of its names.
type Holding struct {
	Name   string // the full name if the place has it, else the tag; "" for none
	Digest v1.Hash
}

// Images lists the images of the layout ([Store]).
func (l *ociLayout) Images(ctx context.Context, ref string) ([]Holding, error) {
	im, err := l.index()
	if err != nil {
		return nil, err
	}
	return holdings(ctx, l.String(), im, l, ref)
}

// Images lists the images of the archive ([Store]).
func (a *ociArchive) Images(ctx context.Context, ref string) ([]Holding, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	return holdings(ctx, a.String(), t.index, t, ref)
}

// holdings is Images of a layout or an archive, whose index.json is im.
func holdings(ctx context.Context, where string, im *ocispec.Index, s blobStore, ref string) ([]Holding, error) {
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

// sortHoldings sorts by name, then by digest, and drops repeated ones: an index.json may
// list an image twice under one name.
func sortHoldings(list []Holding) []Holding {
	slices.SortFunc(list, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest.String(), b.Digest.String()))
	})
	return slices.Compact(list)
}

// nameOf returns the name of an entry of index.json, or "". It prefers the annotation of
// containerd and Docker, which is a full name. The ref.name of the specification
// (image-spec, annotations.md) is the tag alone beside it.
func nameOf(d ocispec.Descriptor) string {
	return cmp.Or(d.Annotations[annotationImageName], d.Annotations[ocispec.AnnotationRefName])
}

// tagOf returns the tag of a name, which may be a tag alone.
func tagOf(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// sameName reports whether two names are spellings of one, as app:v1 and
// docker.io/library/app:v1 are.
func sameName(a, b string) bool { return a == b || canonical(a) == canonical(b) }

// canonical returns the one spelling of a name with a tag. Other names stay as they are.
func canonical(name string) string {
	r := imageref.Cut(name)
	if r.Tag == "" || r.Digest != "" {
		return name
	}
	return r.Canonical().String()
}

// matching returns the elements that name means: those with that name or, if there are
// none, those whose tag it is.
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
