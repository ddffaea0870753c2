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

// This file reads and changes index.json, the list of what a layout or archive holds. It
// resolves references and never guesses: an ambiguous one is an error with the
// candidates.

// newIndex returns the index.json of an empty layout.
func newIndex() *ocispec.Index {
	return &ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{},
	}
}

// parseIndex reads index.json. Annotations and platforms of entries are kept when it is
// written again; fields that are not in the specification are lost.
func parseIndex(raw []byte) (*ocispec.Index, error) {
	im := newIndex()
	if err := json.Unmarshal(raw, im); err != nil {
		return nil, mismatch("index.json: %w", err)
	}
	return im, nil
}

// An entry is content to be listed in index.json: by a name, by "@" and its digest, or by
// neither.
type entry struct {
	name    string
	digest  v1.Hash // zero, or the digest of desc
	desc    v1.Descriptor
	content manifest.Content
}

// describe returns the entries for all. A digest in a reference must be that of the
// content.
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

// into adds the entry to im. It replaces the entry of the same name in its position, or
// is appended. An entry without a name replaces the unnamed one of its digest. If it was
// put by its digest, any entry of that digest is enough, whatever its name.
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

// marshal returns im as the bytes of index.json, within the size that can be read again.
func marshal(im *ocispec.Index) ([]byte, error) {
	raw, err := json.MarshalIndent(im, "", "  ")
	if err == nil && len(raw) > maxManifest {
		err = fmt.Errorf("index.json would have %d bytes, more than the limit of %d", len(raw), maxManifest)
	}
	return append(raw, '\n'), err
}

// pick returns the descriptor of what ref names in im, whose blobs are in s. where names
// the place in errors. No match is [manifest.ErrNotFound]; matches with different digests
// are a [*SeveralError], because a guess could take the wrong image.
func pick(ctx context.Context, where string, im *ocispec.Index, s blobStore, ref string) (v1.Descriptor, error) {
	d, _, err := pickNamed(ctx, where, im, s, ref)
	return d, err
}

// pickNamed is pick, and also returns the name of the entry.
func pickNamed(ctx context.Context, where string, im *ocispec.Index, s blobStore, ref string) (d v1.Descriptor, name string, err error) {
	name, digest, err := parseRef(ref)
	if err != nil {
		return d, "", fmt.Errorf("%s: %w", where, err)
	}
	found := im.Manifests
	switch {
	case name != "":
		// The second name matches entries whose ref.name is the tag while containerd's
		// annotation has another full name.
		found = matching(found, name, func(e ocispec.Descriptor) []string {
			return []string{nameOf(e), ":" + e.Annotations[ocispec.AnnotationRefName]}
		})
	case digest == (v1.Hash{}):
		// An empty ref means the only image. Signatures and other referrers do not count.
		found = principal(ctx, s, found)
	}
	if digest != (v1.Hash{}) {
		d, of, err := byDigest(ctx, where, found, s, digest)
		if err != nil || d.Digest == digest {
			return d, of, err
		}
		// Nothing has the digest. The error below lists what exists.
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

// refsOf returns the references of entries for messages, sorted: their names, with the
// digest if a name is missing or not unique, or always if full is set.
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

// shownRef returns a reference as it follows a place, with control characters escaped:
// names in index.json come from outside.
func shownRef(name string, digest v1.Hash) string {
	ref := writeRef(name, digest)
	if name != "" {
		ref = ":" + ref
	}
	quoted := strconv.Quote(ref)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// listed joins references for a message, at most ten of them.
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

// A SeveralError says that a reference matches several images of a place, or that an
// index has several images and a Docker format can hold one.
type SeveralError struct {
	Place  string // in the form of [Place.String]
	Ref    string // the reference that was given; may be empty
	Count  int
	Images []string // full references of the candidates, sorted

	// Platforms are those of the index's images; empty if a reference is ambiguous.
	Platforms []ocispec.Platform // of the index's images
}

// several returns the error for candidates, whose references follow the place.
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

// Hint lists the candidates, or says how to choose a platform.
func (e *SeveralError) Hint() string {
	if len(e.Platforms) > 0 {
		return ""
	}
	return "use one of " + listed("", e.Images)
}

// byDigest looks for h among entries, and then in the indexes that they list, so that a
// child of an index can be asked for by its digest. The zero descriptor means that h was
// not found.
func byDigest(ctx context.Context, where string, entries []ocispec.Descriptor, s blobStore, h v1.Hash) (v1.Descriptor, string, error) {
	name := ""
	// All entries are checked before any index is read, so that a listed digest costs no
	// reading.
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
			err = manifest.Walk(c, nil, func(n manifest.Node) error {
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

// errFound ends a walk that has found its digest.
var errFound = errors.New("found")

// descriptor converts an entry of index.json and checks its digest, because digests
// become names of files: "../x" must not get that far.
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
