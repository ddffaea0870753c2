package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Annotations by which BuildKit marks the attestations of an index.
const (
	AnnotationReferenceType   = "vnd.docker.reference.type"
	AnnotationReferenceDigest = "vnd.docker.reference.digest"
)

// A Child is an entry of an index.
type Child struct {
	// Descriptor stands in the index as it is.
	Descriptor v1.Descriptor
	// Content is what Descriptor describes. It may be lazy, and nil when the
	// child is in the target already.
	Content Content
	// Open reads the content when it is wanted, in the place of Content. It may be
	// called more than once.
	Open func() (Content, error)
}

// IsAttestation reports whether d describes an attestation, which belongs to
// another entry of its index and runs on no platform.
func IsAttestation(d v1.Descriptor) bool {
	return d.Annotations[AnnotationReferenceType] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// Index makes an index of children (image-spec, image-index.md).
//
// Children are sorted by platform, each attestation right after its subject.
// Each child that is no attestation has a platform, and no two have the same;
// every complaint is reported at once. The index is a Docker manifest list when
// there are children and all are Docker's, which cannot carry annotations, and
// an OCI index otherwise.
func Index(children []Child, annotations map[string]string) (v1.ImageIndex, error) {
	return indexOf(family(children), children, nil, annotations)
}

// indexOf is [Index] with the media type chosen. others follow the children; they run
// on no platform.
func indexOf(mediaType types.MediaType, children, others []Child, annotations map[string]string) (v1.ImageIndex, error) {
	sorted, err := arrange(children)
	if err != nil {
		return nil, err
	}
	im := v1.IndexManifest{SchemaVersion: 2, MediaType: mediaType, Manifests: []v1.Descriptor{}}
	if len(annotations) > 0 {
		if im.MediaType == types.DockerManifestList {
			return nil, errors.New("a Docker manifest list carries no annotations")
		}
		im.Annotations = maps.Clone(annotations)
	}
	x := &index{children: map[v1.Hash]Child{}}
	for _, c := range append(sorted, others...) {
		im.Manifests = append(im.Manifests, c.Descriptor)
		if c.Content != nil || c.Open != nil {
			x.children[c.Descriptor.Digest] = c
		}
	}
	if x.raw, err = json.Marshal(im); err != nil {
		return nil, err
	}
	x.mediaType = im.MediaType
	return x, nil
}

// arrange checks the children and puts them in the order of the index.
func arrange(children []Child) ([]Child, error) {
	var errs []error
	byPlatform := map[string]v1.Hash{}
	subjects := map[string]int{}
	var images, attestations []Child
	for _, c := range children {
		d := c.Descriptor
		if IsAttestation(d) {
			attestations = append(attestations, c)
			continue
		}
		if d.Platform == nil || d.Platform.OS == "" || d.Platform.Architecture == "" {
			errs = append(errs, fmt.Errorf("%s has no platform", d.Digest))
			continue
		}
		key := platform.Key(platform.FromV1(d.Platform))
		if first, dup := byPlatform[key]; dup {
			errs = append(errs, fmt.Errorf("%s twice: %s and %s", key, first, d.Digest))
			continue
		}
		byPlatform[key] = d.Digest
		images = append(images, c)
	}
	slices.SortStableFunc(images, func(a, b Child) int {
		return platform.Compare(platform.FromV1(a.Descriptor.Platform), platform.FromV1(b.Descriptor.Platform))
	})
	for i, c := range images {
		subjects[c.Descriptor.Digest.String()] = i
	}
	subject := func(c Child) int {
		i, ok := subjects[c.Descriptor.Annotations[AnnotationReferenceDigest]]
		if !ok {
			return len(images)
		}
		return i
	}
	for _, c := range attestations {
		if subject(c) == len(images) {
			errs = append(errs, fmt.Errorf("attestation %s describes no image of the index", c.Descriptor.Digest))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortStableFunc(attestations, func(a, b Child) int { return cmp.Compare(subject(a), subject(b)) })
	var sorted []Child
	for i, c := range images {
		sorted = append(sorted, c)
		for len(attestations) > 0 && subject(attestations[0]) == i {
			sorted, attestations = append(sorted, attestations[0]), attestations[1:]
		}
	}
	return sorted, nil
}

// family returns the media type of an index of children.
func family(children []Child) types.MediaType {
	docker := func(c Child) bool {
		return c.Descriptor.MediaType == types.DockerManifestSchema2 || c.Descriptor.MediaType == types.DockerManifestList
	}
	if len(children) > 0 && !slices.ContainsFunc(children, func(c Child) bool { return !docker(c) }) {
		return types.DockerManifestList
	}
	return types.OCIImageIndex
}

// index is the v1.ImageIndex that Index returns.
type index struct {
	raw       []byte
	mediaType types.MediaType
	children  map[v1.Hash]Child
}

func (x *index) MediaType() (types.MediaType, error) { return x.mediaType, nil }
func (x *index) RawManifest() ([]byte, error)        { return slices.Clone(x.raw), nil }
func (x *index) Digest() (v1.Hash, error)            { return partial.Digest(x) }
func (x *index) Size() (int64, error)                { return int64(len(x.raw)), nil }

func (x *index) IndexManifest() (*v1.IndexManifest, error) {
	var im v1.IndexManifest
	if err := json.Unmarshal(x.raw, &im); err != nil {
		return nil, err
	}
	return &im, nil
}

func (x *index) Image(h v1.Hash) (v1.Image, error) { return contentOf[v1.Image](x, h, "image") }

func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return contentOf[v1.ImageIndex](x, h, "index")
}

// contentOf returns the content of a child, which must be a T.
func contentOf[T Content](x *index, h v1.Hash, noun string) (own T, err error) {
	c := x.children[h]
	content := c.Content
	if c.Open != nil {
		if content, err = c.Open(); err != nil {
			return own, err
		}
	}
	own, ok := content.(T)
	if !ok {
		return own, fmt.Errorf("%s %s: %w", noun, h, ErrNotFound)
	}
	return own, nil
}
