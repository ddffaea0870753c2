package manifest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A flattening takes the images out of an index and of those within it.
type flattening struct {
	a     *Assembly
	ctx   context.Context
	ref   string
	base  bool // nothing may be left behind
	parts []*part
	seen  map[v1.Hash]bool
}

func (f *flattening) add(idx v1.ImageIndex, depth int) error {
	im, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	if len(im.Manifests)+len(f.parts) > maxEntries {
		return fmt.Errorf("an index of more than %d entries: %w", maxEntries, ErrMismatch)
	}
	var errs []error
	for _, d := range im.Manifests {
		errs = append(errs, f.entry(idx, d, depth))
	}
	return errors.Join(errs...)
}

// entry takes one entry of idx.
func (f *flattening) entry(idx v1.ImageIndex, d v1.Descriptor, depth int) error {
	p := &part{from: f.ref, base: f.base, Child: Child{Descriptor: d, Open: func() (Content, error) { return idx.Image(d.Digest) }}}
	if f.base {
		p.from = d.Digest.String()
	}
	switch {
	case IsAttestation(d):
	case d.MediaType.IsIndex():
		if f.seen[d.Digest] {
			return nil
		}
		f.seen[d.Digest] = true
		if depth == maxDepth {
			return fmt.Errorf("indexes within each other, more than %d deep: %w", maxDepth, ErrMismatch)
		}
		inner, err := idx.ImageIndex(d.Digest)
		if err != nil {
			return err
		}
		return f.add(inner, depth+1)
	case !d.MediaType.IsImage() && !f.base:
		f.a.Log.WarnContext(f.ctx, "left out, it is no image", "digest", d.Digest.String(), "type", string(d.MediaType), "index", f.ref)
		return nil
	case !d.MediaType.IsImage():
	case d.Platform == nil || d.Platform.OS == "" || d.Platform.Architecture == "":
		p.unread = func() (v1.Image, error) { return idx.Image(d.Digest) }
	}
	f.parts = append(f.parts, p)
	return nil
}

// onto puts parts onto the base.
func (a *Assembly) onto(ctx context.Context, parts []*part) ([]*part, error) {
	f := flattening{a: a, ctx: ctx, base: true, seen: map[v1.Hash]bool{}}
	if err := f.add(a.Base, 1); err != nil {
		return nil, err
	}
	base := f.parts
	if !a.chooses() {
		var err error
		if base, err = a.settleAll(ctx, base); err != nil {
			return nil, err
		}
	}
	kept, err := a.remove(base)
	if err != nil {
		return nil, err
	}
	if a.Replace {
		fresh := map[string]bool{}
		for _, p := range parts {
			if !IsAttestation(p.Descriptor) {
				fresh[p.key()] = true
			}
		}
		kept = slices.DeleteFunc(kept, func(p *part) bool { return !IsAttestation(p.Descriptor) && fresh[p.key()] })
	} else if err := unique(slices.Concat(kept, parts)); err != nil && len(parts) > 0 {
		return nil, unfit("--replace puts the new one in its place", "%w", err)
	}
	all := slices.Concat(kept, parts)
	if len(all) == 0 {
		return nil, unfit("", "nothing would be left of the index")
	}
	return all, nil
}

// remove takes away what Remove names.
func (a *Assembly) remove(parts []*part) ([]*part, error) {
	gone := map[string]bool{}
	for _, what := range a.Remove {
		gone[what] = false
	}
	var have []string
	kept := slices.DeleteFunc(parts, func(p *part) bool {
		names := []string{p.Descriptor.Digest.String()}
		if p.runs() {
			names, have = append(names, p.key()), append(have, p.key())
		}
		out := false
		for _, name := range names {
			if _, named := gone[name]; named {
				gone[name], out = true, true
			}
		}
		return out
	})
	var missing []string
	for _, what := range slices.Sorted(maps.Keys(gone)) {
		if !gone[what] {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		return nil, unfit("", "the index has no %s; it has %s", strings.Join(missing, ", "), list(have))
	}
	if len(a.Remove) > 0 && len(a.Items) == 0 && !slices.ContainsFunc(kept, func(p *part) bool { return !IsAttestation(p.Descriptor) }) {
		return nil, unfit("", "nothing would be left of the index")
	}
	return kept, nil
}

// annotate sets the annotations of the parts and returns those of the index.
func (a *Assembly) annotate(parts []*part) (map[string]string, error) {
	annotations := map[string]string{}
	if a.Base != nil {
		im, err := a.Base.IndexManifest()
		if err != nil {
			return nil, err
		}
		maps.Copy(annotations, im.Annotations)
	}
	change(annotations, a.Annotations)
	left := maps.Clone(a.ChildAnnotations)
	var have []string
	for _, p := range parts {
		if !p.runs() {
			continue
		}
		have = append(have, p.key())
		changes, ok := a.ChildAnnotations[p.key()]
		if !ok {
			continue
		}
		delete(left, p.key())
		own := map[string]string{}
		maps.Copy(own, p.Descriptor.Annotations)
		change(own, changes)
		p.Descriptor.Annotations = own
	}
	if len(left) > 0 {
		return nil, unfit("", "no %s to annotate; there is %s", strings.Join(slices.Sorted(maps.Keys(left)), ", "), list(have))
	}
	return annotations, nil
}

// change applies changes, of which nil takes away.
func change(annotations map[string]string, changes map[string]*string) {
	for key, value := range changes {
		if value == nil {
			delete(annotations, key)
		} else {
			annotations[key] = *value
		}
	}
}

// mediaType decides what kind of index it is.
func (a *Assembly) mediaType(parts []*part, annotations map[string]string) (types.MediaType, error) {
	var foreign []error
	docker, annotated := 0, len(annotations) > 0
	for _, p := range parts {
		annotated = annotated || len(p.Descriptor.Annotations) > 0 && !IsAttestation(p.Descriptor)
		if p.Descriptor.MediaType == types.DockerManifestSchema2 {
			docker++
			continue
		}
		foreign = append(foreign, unfit("--type oci, or leave it out", "a Docker list cannot hold %s, which is %s: rewriting it would change its digest", p.name(), p.Descriptor.MediaType))
	}
	want := a.Type
	if want == "" {
		if want = types.OCIImageIndex; docker == len(parts) && docker > 0 {
			want = types.DockerManifestList
		}
	}
	if want != types.DockerManifestList {
		if docker > 0 && len(foreign) > 0 {
			a.Log.Warn("the index mixes Docker and OCI images, which some registries refuse (GCR, older Quay)")
		}
		return want, nil
	}
	if err := errors.Join(foreign...); err != nil {
		return "", err
	}
	if annotated {
		return "", unfit("--type oci makes an OCI index, which has annotations", "all images are Docker's, and a Docker manifest list carries no annotations")
	}
	return want, nil
}
