package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

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
	name    string
	digest  v1.Hash // zero, or that of desc
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
		name, digest, err := parseRef(one.Ref)
		if err != nil {
			return nil, err
		}
		if digest != (v1.Hash{}) && digest != d.Digest {
			return nil, mismatch("%s cannot be used for %s", one.Ref, d.Digest)
		}
		entries[i] = entry{name, digest, d, one.Content}
	}
	return entries, nil
}

// into makes the entry one of im: in the place of the one that has the name, or else
// at the end. Without a name it is the one of the digest that has none; by its digest
// alone it is whichever there is.
func (n entry) into(im *ocispec.Index) {
	d := n.desc
	entry := ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
	if n.name == "" && n.digest != (v1.Hash{}) && slices.ContainsFunc(im.Manifests, func(e ocispec.Descriptor) bool { return e.Digest == entry.Digest }) {
		return
	}
	if n.name != "" {
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: n.name}
	}
	same := func(e ocispec.Descriptor) bool {
		if n.name == "" {
			return nameOf(e) == "" && e.Digest == entry.Digest
		}
		return sameName(nameOf(e), n.name)
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
		err = fmt.Errorf("index.json would have %d bytes, more than the limit of %d", len(raw), maxManifest)
	}
	return append(raw, '\n'), err
}

// pick returns the descriptor of what ref names in im, whose blobs are in s.
// where is told in errors.
func pick(ctx context.Context, where string, im *ocispec.Index, s store, ref string) (v1.Descriptor, error) {
	d, _, err := pickNamed(ctx, where, im, s, ref)
	return d, err
}

// pickNamed is pick that says the name, too, which the image has.
func pickNamed(ctx context.Context, where string, im *ocispec.Index, s store, ref string) (d v1.Descriptor, name string, err error) {
	name, digest, err := parseRef(ref)
	if err != nil {
		return d, "", fmt.Errorf("%s: %w", where, err)
	}
	found := im.Manifests
	switch {
	case name != "":
		found = matching(found, name, func(e ocispec.Descriptor) []string {
			return []string{nameOf(e), ":" + e.Annotations[ocispec.AnnotationRefName]}
		})
	case digest == (v1.Hash{}):
		found = principal(ctx, s, found)
	}
	if digest != (v1.Hash{}) {
		d, of, err := byDigest(ctx, where, found, s, digest)
		if err != nil || d.Digest == digest {
			return d, of, err
		}
		found = nil
	}
	switch {
	case len(found) == 0 && ref == "":
		return d, "", notFound("%s contains no image", where)
	case len(found) == 0:
		return d, "", &hint.Error{Err: notFound("no %q in %s", ref, where), Hint: "available images: " + listed(where, refsOf(im.Manifests, false))}
	case slices.ContainsFunc(found, func(e ocispec.Descriptor) bool { return e.Digest != found[0].Digest }):
		return d, "", several(where, ref, len(found), refsOf(found, name != ""))
	}
	d, err = descriptor(found[0])
	return d, nameOf(found[0]), err
}

// refsOf lists what entries are asked for by, sorted: their names, and the digests of
// those whose name is not enough; of all, if in full.
func refsOf(entries []ocispec.Descriptor, full bool) []string {
	count := map[string]int{}
	for _, e := range entries {
		count[canonical(nameOf(e))]++
	}
	var list []string
	for _, e := range entries {
		name := nameOf(e)
		var digest v1.Hash
		if h, err := v1.NewHash(string(e.Digest)); err == nil && (full || count[canonical(name)] > 1 || name == "") {
			digest = h
		}
		list = append(list, shownRef(name, digest))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// shownRef is what stands behind a place, fit to be shown.
func shownRef(name string, digest v1.Hash) string {
	ref := writeRef(name, digest)
	if name != "" {
		ref = ":" + ref
	}
	quoted := strconv.Quote(ref)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
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

// A SeveralError says that a place holds several images that may be meant, or that an
// index has several of which a Docker form takes one.
type SeveralError struct {
	Place  string // as [Place] writes it
	Ref    string // that was asked for, empty for none
	Count  int
	Images []string // whole references of those that have one, sorted

	Platforms []ocispec.Platform // of the index's images
}

func several(where, ref string, count int, refs []string) error {
	e := &SeveralError{Place: where, Ref: ref, Count: count}
	for _, ref := range refs {
		e.Images = append(e.Images, where+ref)
	}
	return e
}

func (e *SeveralError) Error() string {
	if len(e.Platforms) > 0 {
		return "Docker requires an image of one platform, but the platforms are " + platform.Keys(e.Platforms)
	}
	if e.Ref != "" {
		return fmt.Sprintf("%q is the name of %d images in %s", e.Ref, e.Count, e.Place)
	}
	return fmt.Sprintf("%s contains %d images", e.Place, e.Count)
}

// Is reports whether target is the kind of the error.
func (*SeveralError) Is(target error) bool { return target == hint.Usage }

// Hint lists the images.
func (e *SeveralError) Hint() string {
	if len(e.Platforms) > 0 {
		return ""
	}
	return "use one of " + listed("", e.Images)
}

// byDigest looks for h among entries and in the indexes that they list; the zero
// descriptor is none.
func byDigest(ctx context.Context, where string, entries []ocispec.Descriptor, s store, h v1.Hash) (v1.Descriptor, string, error) {
	name := ""
	var level []v1.Descriptor
	for _, e := range entries {
		d, err := descriptor(e)
		if err != nil {
			return d, "", fmt.Errorf("%s: %w", where, err)
		}
		if d.Digest == h && name == "" {
			name = nameOf(e)
		}
		level = append(level, d)
	}
	for _, d := range level {
		if d.Digest == h {
			return d, name, nil
		}
	}
	var found v1.Descriptor
	for _, d := range level {
		if !d.MediaType.IsIndex() {
			continue
		}
		c, err := read(ctx, s, d)
		if err == nil {
			err = manifest.Walk(c, func(n manifest.Node) error {
				if n.Descriptor.Digest == h && n.Descriptor.Digest != d.Digest {
					found = n.Descriptor
					return errFound
				}
				return nil
			})
		}
		if errors.Is(err, errFound) {
			return found, name, nil
		}
		if err != nil {
			return v1.Descriptor{}, "", fmt.Errorf("%s: %w", where, err)
		}
	}
	return v1.Descriptor{}, "", nil
}

// errFound ends a walk that has found what it looks for.
var errFound = errors.New("found")

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
