package manifest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest/platform"
)

// This file applies an Assembly to its Base: nested indexes, Remove, Replace, annotations
// and the media type. Nothing here reads an image, except for base entries that do not
// say what they are.

// flatten returns the entries of idx and of the indexes within it. Of the base all stay.
// Of an item the entries that are not images are skipped with a warning.
func (a *Assembly) flatten(ctx context.Context, idx v1.ImageIndex, ref string, base bool) ([]*part, error) {
	entries, err := Entries(idx)
	if err != nil {
		return nil, err
	}
	var parts []*part
	for _, e := range entries {
		p := &part{from: ref, base: base, entry: e, Child: Child{Descriptor: e.Descriptor, Open: e.Open}}
		switch {
		case base:
			p.from, p.source = e.Descriptor.Digest.String(), -1
		case e.Kind == KindArtifact || e.Kind == KindUnknown:
			a.leaveOut(ctx, p)
			continue
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// leaveOut warns that p is skipped because it is not an image.
func (a *Assembly) leaveOut(ctx context.Context, p *part) {
	kind := cmp.Or(p.entry.Type, string(p.Descriptor.MediaType))
	a.Log.WarnContext(ctx, "skipped an entry that is not an image", "digest", p.Descriptor.Digest.String(), "type", kind, "index", p.from)
}

// onto adds parts to the entries of the base, after Remove and Replace were applied to
// it.
func (a *Assembly) onto(ctx context.Context, parts []*part) ([]*part, error) {
	base, err := a.flatten(ctx, a.Base, "", true)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, p := range base {
		there[p.Descriptor.Digest.String()] = true
	}
	for _, p := range base {
		p.loose = p.attests() && !there[p.Descriptor.Annotations[annotationReferenceDigest]]
	}
	if !a.chooses() {
		if base, err = a.checkAll(ctx, base); err != nil {
			return nil, err
		}
	}
	kept, err := a.remove(base)
	if err != nil {
		return nil, err
	}
	// What the base has already is not added again, so that adding it changes nothing.
	parts = slices.DeleteFunc(slices.Clone(parts), func(p *part) bool {
		return slices.ContainsFunc(kept, func(k *part) bool {
			notes := p.Descriptor.Annotations
			return k.Descriptor.Digest == p.Descriptor.Digest && k.key() == p.key() && (len(notes) == 0 || maps.Equal(notes, k.Descriptor.Annotations))
		})
	})
	if a.Replace {
		fresh := map[string]bool{}
		for _, key := range keysOf(parts) {
			fresh[key] = true
		}
		kept = slices.DeleteFunc(kept, func(p *part) bool { return p.runs() && fresh[p.key()] })
	} else if err := unique(slices.Concat(kept, parts)); err != nil && len(parts) > 0 {
		return nil, conflict("Replace", "%w", err)
	}
	all := slices.Concat(kept, parts)
	if len(all) == 0 {
		return nil, conflict("Base", "the index would be empty")
	}
	return all, nil
}

// remove drops the entries that Remove names. All names that match nothing are in one
// error. An index that would be left with attestations alone is an error unless items
// follow.
func (a *Assembly) remove(parts []*part) ([]*part, error) {
	out := map[*part]bool{}
	var missing []string
	for _, what := range slices.Compact(slices.Sorted(slices.Values(a.Remove))) {
		named := namedBy(parts, what)
		if len(named) == 0 {
			missing = append(missing, what)
		}
		for _, p := range named {
			out[p] = true
		}
	}
	if len(missing) > 0 {
		return nil, conflict("Remove", "the index has no %s, only %s", strings.Join(missing, ", "), list(keysOf(parts)))
	}
	kept := slices.DeleteFunc(parts, func(p *part) bool { return out[p] })
	if len(a.Remove) > 0 && len(a.Items) == 0 && !slices.ContainsFunc(kept, func(p *part) bool { return !p.attests() }) {
		return nil, conflict("Base", "the index would be empty")
	}
	return kept, nil
}

// namedBy returns the parts that what names: those with this digest, or else the images
// that [platform.All] finds for this platform.
func namedBy(parts []*part, what string) (named []*part) {
	for _, p := range parts {
		if p.Descriptor.Digest.String() == what {
			named = append(named, p)
		}
	}
	if want, err := platform.Parse(what); err == nil && len(named) == 0 {
		images, of := imagesOf(parts)
		for _, at := range platform.All(want, of) {
			named = append(named, images[at])
		}
	}
	return named
}

// like returns the fields of the new index other than its entries: those of the base,
// with the annotations changed.
func (a *Assembly) like() (like v1.IndexManifest, err error) {
	if a.Base != nil {
		if like.MediaType, err = a.Base.MediaType(); err != nil {
			return like, err
		}
		im, err := a.Base.IndexManifest()
		if err != nil {
			return like, err
		}
		like.ArtifactType, like.Subject, like.Annotations = im.ArtifactType, im.Subject, maps.Clone(im.Annotations)
	}
	if like.Annotations == nil {
		like.Annotations = map[string]string{}
	}
	change(like.Annotations, a.Annotations)
	return like, nil
}

// annotate sets the annotations of entries. It copies each map, which belongs to the
// manifest that was read.
func (a *Assembly) annotate(parts []*part) error {
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(a.ChildAnnotations)) {
		named := namedBy(parts, key)
		if len(named) == 0 {
			missing = append(missing, key)
		}
		for _, p := range named {
			own := map[string]string{}
			maps.Copy(own, p.Descriptor.Annotations)
			change(own, a.ChildAnnotations[key])
			p.Descriptor.Annotations = own
		}
	}
	if len(missing) > 0 {
		return invalid("", "no entry for %s to annotate, only for %s", strings.Join(missing, ", "), list(keysOf(parts)))
	}
	return nil
}

// change sets the annotations in changes; a nil value removes one.
func change(annotations map[string]string, changes map[string]*string) {
	for key, value := range changes {
		if value == nil {
			delete(annotations, key)
		} else {
			annotations[key] = *value
		}
	}
}

// mediaType decides the media type of the index: that of the base, except that a Docker
// manifest list becomes an OCI index if it gets an entry of another type. Docker's format
// has no annotations and no OCI images. Children are never converted, because their
// digests would change and signatures of them would no longer match.
func (a *Assembly) mediaType(ctx context.Context, parts []*part, like v1.IndexManifest) (types.MediaType, error) {
	var foreign []error
	docker, more := 0, len(like.Annotations) > 0 || like.ArtifactType != "" || like.Subject != nil
	for _, p := range parts {
		more = more || len(p.Descriptor.Annotations) > 0 && !p.attests()
		if p.Descriptor.MediaType == types.DockerManifestSchema2 {
			docker++
			continue
		}
		foreign = append(foreign, conflict("Type", "a Docker manifest list cannot hold %s of type %s, and converting it would change its digest", p.name(), p.Descriptor.MediaType))
	}
	want := a.Type
	switch {
	case want != "":
	case like.MediaType == types.OCIImageIndex || docker < len(parts) || docker == 0:
		want = types.OCIImageIndex
	default:
		want = types.DockerManifestList
	}
	if want != types.DockerManifestList {
		if like.MediaType == types.DockerManifestList && a.Type == "" {
			a.Log.WarnContext(ctx, "the Docker manifest list becomes an OCI index, because it can hold only Docker images")
		}
		if docker > 0 && len(foreign) > 0 {
			a.Log.WarnContext(ctx, "the index contains both Docker and OCI images, which some registries refuse (GCR, older Quay)")
		}
		return want, nil
	}
	if err := errors.Join(foreign...); err != nil {
		return "", err
	}
	if more {
		return "", conflict("Annotations", "all images have Docker media types, and a Docker manifest list does not support annotations")
	}
	return want, nil
}
