package local

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// nameOf returns the name that an entry of index.json has, empty for none
// (image-spec, annotations.md).
func nameOf(d ocispec.Descriptor) string { return d.Annotations[ocispec.AnnotationRefName] }

// newIndex is the index.json of a layout that holds nothing.
func newIndex() *ocispec.Index {
	return &ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{},
	}
}

func parseIndex(raw []byte) (*ocispec.Index, error) {
	im := newIndex()
	if err := json.Unmarshal(raw, im); err != nil {
		return nil, mismatch("index.json: %w", err)
	}
	return im, nil
}

// An entry is content that index.json is to have: under a name, by "@" and its digest
// or under none.
type entry struct {
	ref     string
	desc    v1.Descriptor
	content manifest.Content
}

// describe returns what the entries of all are to be.
func describe(all []manifest.Named) ([]entry, error) {
	entries := make([]entry, len(all))
	for i, one := range all {
		d, err := manifest.Describe(one.Content)
		if err != nil {
			return nil, err
		}
		if text, ok := strings.CutPrefix(one.Ref, "@"); ok && text != d.Digest.String() {
			return nil, mismatch("%s cannot name %s", one.Ref, d.Digest)
		}
		entries[i] = entry{one.Ref, d, one.Content}
	}
	return entries, nil
}

// into makes the entry one of im: in the place of the one that has the name, or else
// at the end. Without a name it is the one of the digest that has none; by its digest
// it is whichever there is.
func (n entry) into(im *ocispec.Index) {
	ref, d := n.ref, n.desc
	entry := ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
	if strings.HasPrefix(ref, "@") {
		if slices.ContainsFunc(im.Manifests, func(e ocispec.Descriptor) bool { return e.Digest == entry.Digest }) {
			return
		}
		ref = ""
	}
	if ref != "" {
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
	}
	same := func(e ocispec.Descriptor) bool {
		return nameOf(e) == ref && (ref != "" || e.Digest == entry.Digest)
	}
	at := slices.IndexFunc(im.Manifests, same)
	im.Manifests = slices.DeleteFunc(im.Manifests, same)
	if at < 0 {
		at = len(im.Manifests)
	}
	im.Manifests = slices.Insert(im.Manifests, at, entry)
}

// marshal returns im as the bytes of index.json.
func marshal(im *ocispec.Index) ([]byte, error) {
	raw, err := json.MarshalIndent(im, "", "  ")
	if err == nil && len(raw) > maxManifest {
		err = fmt.Errorf("index.json would have %d bytes, %d are the most", len(raw), maxManifest)
	}
	return append(raw, '\n'), err
}

// pick returns the descriptor of what ref names in im, whose blobs are in s.
// where is told in errors.
func pick(ctx context.Context, where string, im *ocispec.Index, s store, ref string) (v1.Descriptor, error) {
	if text, ok := strings.CutPrefix(ref, "@"); ok {
		h, err := v1.NewHash(text)
		if err != nil {
			return v1.Descriptor{}, fmt.Errorf("%s: %w", where, err)
		}
		return byDigest(ctx, where, im, s, h)
	}
	found := named(im.Manifests, ref)
	if ref == "" && len(found) > 1 {
		found = principal(ctx, s, found)
	}
	switch {
	case len(found) == 1:
		return descriptor(found[0])
	case len(found) == 0 && ref == "":
		return v1.Descriptor{}, notFound("%s holds no image", where)
	case len(found) == 0:
		return v1.Descriptor{}, &hinted{notFound("no %q in %s", ref, where), "there is " + listed(where, names(im.Manifests))}
	}
	return v1.Descriptor{}, several(where, len(found), names(found))
}

// named returns the entries that ref may mean: all for the empty one, else the
// one of that name, else those whose name ends with it as a tag. Of entries with
// the same name, which only other tools write, the last one holds.
func named(entries []ocispec.Descriptor, ref string) []ocispec.Descriptor {
	if ref == "" {
		return entries
	}
	var tagged []ocispec.Descriptor
	seen := map[string]bool{}
	for _, e := range slices.Backward(entries) {
		name := nameOf(e)
		if name == ref {
			return []ocispec.Descriptor{e}
		}
		if strings.HasSuffix(name, ":"+ref) && !seen[name] {
			seen[name], tagged = true, append(tagged, e)
		}
	}
	slices.Reverse(tagged)
	return tagged
}

// names lists what entries are asked for by, sorted: their names and the digests of
// those that have none.
func names(entries []ocispec.Descriptor) []string {
	var list []string
	for _, e := range entries {
		if name := nameOf(e); name != "" {
			list = append(list, strings.Trim(fmt.Sprintf("%q", ":"+name), `"`))
		} else if h, err := v1.NewHash(string(e.Digest)); err == nil {
			list = append(list, "@"+h.String())
		}
	}
	slices.Sort(list)
	return list
}

// listed writes references out, the first of many.
func listed(where string, refs []string) string {
	const most = 10
	var list []string
	for i, ref := range refs {
		if i == most {
			list = append(list, "…")
			break
		}
		list = append(list, where+ref)
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// A SeveralError says that a place holds several images, and which was meant was not
// said.
type SeveralError struct {
	Place  string // as [Place] writes it
	Count  int
	Images []string // whole references of those that have one, sorted
}

func several(where string, count int, refs []string) error {
	e := &SeveralError{Place: where, Count: count}
	for _, ref := range refs {
		e.Images = append(e.Images, where+ref)
	}
	return e
}

func (e *SeveralError) Error() string { return fmt.Sprintf("%s holds %d images", e.Place, e.Count) }

// Hint lists the images.
func (e *SeveralError) Hint() string { return "name one of " + listed("", e.Images) }

// byDigest looks for h in im and in the indexes that it lists.
func byDigest(ctx context.Context, where string, im *ocispec.Index, s store, h v1.Hash) (v1.Descriptor, error) {
	var level []v1.Descriptor
	for _, e := range im.Manifests {
		d, err := descriptor(e)
		if err != nil {
			return d, fmt.Errorf("%s: %w", where, err)
		}
		level = append(level, d)
	}
	seen := map[v1.Hash]bool{}
	for depth := 0; depth <= maxDepth && len(level) > 0; depth++ {
		var next []v1.Descriptor
		for _, d := range level {
			if d.Digest == h {
				return d, nil
			}
			if !d.MediaType.IsIndex() || seen[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			c, err := read(ctx, s, d)
			if err != nil {
				return v1.Descriptor{}, fmt.Errorf("%s: %w", where, err)
			}
			next = append(next, c.(*index).parsed.Manifests...)
		}
		level = next
	}
	return v1.Descriptor{}, notFound("no %s in %s", h, where)
}

// descriptor converts an entry and checks that its digest is one: digests become
// file names.
func descriptor(e ocispec.Descriptor) (v1.Descriptor, error) {
	h, err := v1.NewHash(string(e.Digest))
	if err != nil {
		return v1.Descriptor{}, mismatch("index.json: digest %q", e.Digest)
	}
	d := v1.Descriptor{MediaType: types.MediaType(e.MediaType), Digest: h, Size: e.Size, Annotations: e.Annotations}
	if e.Platform != nil {
		d.Platform = platform.ToV1(*e.Platform)
	}
	return d, nil
}
