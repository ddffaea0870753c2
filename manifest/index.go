package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Annotations of BuildKit on the attestations of an index: the kind, and the digest of
// the image that the attestation describes.
const (
	annotationReferenceType   = "vnd.docker.reference.type"
	annotationReferenceDigest = "vnd.docker.reference.digest"
)

// A Child is an entry of an index.
type Child struct {
	// Descriptor is the entry of the index, written as it is.
	Descriptor v1.Descriptor
	// Content is what Descriptor describes. It may be lazy. It may be nil if the target
	// has the child already; reading the child is then [ErrNotFound].
	Content Content
	// Open reads the content when it is needed, and takes precedence over Content. It may
	// be called more than once and concurrently.
	Open func() (Content, error)
}

// isAttestation reports whether d describes an attestation in the form of BuildKit, which
// belongs to another entry of its index and has no platform.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations[annotationReferenceType] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// Index makes an index of children (image-spec, image-index.md).
//
// The children are sorted by platform, and each attestation comes right after its
// subject, so the same children make the same bytes in any order. Each child that is not
// an attestation must have a platform, and no two the same. All errors are reported at
// once. The index is a Docker manifest list if there are children and all have Docker's
// media types; such a list cannot have annotations. Otherwise it is an OCI index.
func Index(children []Child, annotations map[string]string) (v1.ImageIndex, error) {
	if err := check(children); err != nil {
		return nil, err
	}
	like := v1.IndexManifest{MediaType: family(children), Annotations: maps.Clone(annotations)}
	if len(annotations) > 0 && like.MediaType == types.DockerManifestList {
		return nil, errors.New("a Docker manifest list does not support annotations")
	}
	return indexOf(like, arrange(children))
}

// indexOf makes an index of children in the given order. All other fields come from like.
func indexOf(like v1.IndexManifest, children []Child) (v1.ImageIndex, error) {
	like.SchemaVersion, like.Manifests = 2, []v1.Descriptor{}
	of := childFetcher{}
	for _, c := range children {
		like.Manifests = append(like.Manifests, c.Descriptor)
		if c.Content != nil || c.Open != nil {
			of[c.Descriptor.Digest] = c
		}
	}
	raw, err := json.Marshal(like)
	if err != nil {
		return nil, err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c, err := Open(v1.Descriptor{MediaType: like.MediaType, Digest: digest}, raw, of)
	if err != nil {
		return nil, err
	}
	return c.(v1.ImageIndex), nil //nolint:forcetypeassert // it has manifests
}

// check returns errors for children without a platform, for two with the same platform,
// and for attestations whose subject is not among the children.
func check(children []Child) error {
	var errs []error
	byPlatform, images := map[string]v1.Hash{}, map[string]bool{}
	for _, c := range children {
		d := c.Descriptor
		if isAttestation(d) {
			continue
		}
		images[d.Digest.String()] = true
		key := platform.Key(platform.FromV1(d.Platform))
		first, dup := byPlatform[key]
		switch {
		case d.Platform == nil || d.Platform.OS == "" || d.Platform.Architecture == "":
			errs = append(errs, fmt.Errorf("%s has no platform", d.Digest))
		case dup:
			errs = append(errs, fmt.Errorf("%s twice: %s and %s", key, first, d.Digest))
		default:
			byPlatform[key] = d.Digest
		}
	}
	for _, c := range children {
		if d := c.Descriptor; isAttestation(d) && !images[d.Annotations[annotationReferenceDigest]] {
			errs = append(errs, fmt.Errorf("the image that attestation %s describes is not in the index", d.Digest))
		}
	}
	return errors.Join(errs...)
}

// arrange sorts images by platform and puts the attestations of an image after it.
// Attestations without a subject are dropped; callers have refused or separated them.
func arrange(children []Child) []Child {
	about := map[string][]Child{}
	var images, sorted []Child
	for _, c := range children {
		if subject := c.Descriptor.Annotations[annotationReferenceDigest]; isAttestation(c.Descriptor) {
			about[subject] = append(about[subject], c)
		} else {
			images = append(images, c)
		}
	}
	slices.SortStableFunc(images, func(a, b Child) int {
		return platform.Compare(platform.FromV1(a.Descriptor.Platform), platform.FromV1(b.Descriptor.Platform))
	})
	for _, c := range images {
		subject := c.Descriptor.Digest.String()
		sorted = append(append(sorted, c), about[subject]...)
		delete(about, subject)
	}
	return sorted
}

// family returns the media type of an index of children: Docker's if there are children
// and all are Docker's, else OCI's.
func family(children []Child) types.MediaType {
	docker := func(c Child) bool {
		return c.Descriptor.MediaType == types.DockerManifestSchema2 || c.Descriptor.MediaType == types.DockerManifestList
	}
	if len(children) > 0 && !slices.ContainsFunc(children, func(c Child) bool { return !docker(c) }) {
		return types.DockerManifestList
	}
	return types.OCIImageIndex
}

// A childFetcher is the [Fetcher] of an index that [Index] or [Assembly.Create] made.
// Such an index has no configs and blobs.
type childFetcher map[v1.Hash]Child

func (c childFetcher) Name(h v1.Hash) string { return h.String() }

// Child returns the content of a child, or [ErrNotFound] for one that has a descriptor
// alone.
func (c childFetcher) Child(d v1.Descriptor) (Content, error) {
	child := c[d.Digest]
	if child.Open != nil {
		return child.Open()
	}
	if child.Content == nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, ErrNotFound)
	}
	return child.Content, nil
}

func (c childFetcher) Config(d v1.Descriptor) ([]byte, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, ErrNotFound)
}

func (c childFetcher) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, ErrNotFound)
}
