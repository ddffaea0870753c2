package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// Artifact wraps a document as an image that refers to subject (image-spec, manifest.md,
// "Guidelines for Artifact Usage"). Its config is the empty descriptor, its one layer is
// the document, titled name, and its artifactType is the media type of the format. The
// descriptor of subject is computed from subject's manifest, so nothing has to be pushed
// before. Equal arguments give equal digests. The image is only in memory: the caller
// pushes it, and a registry lists it among the referrers of subject.
func Artifact(format Format, document []byte, name string, subject manifest.Content) (v1.Image, error) {
	d, err := manifest.Describe(subject)
	if err != nil {
		return nil, err
	}
	layer := ocispec.Descriptor{
		MediaType: format.MediaType(), Digest: digest.FromBytes(document), Size: int64(len(document)),
		Annotations: map[string]string{ocispec.AnnotationTitle: name},
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: format.MediaType(),
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{layer},
		Subject: &ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size},
	})
	if err != nil {
		return nil, err
	}
	own, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c, err := manifest.Open(v1.Descriptor{Digest: own}, raw, artifact(document))
	if err != nil {
		return nil, err
	}
	return c.(v1.Image), nil //nolint:forcetypeassert // it has a config
}

// An artifact is a document that serves as the one layer of its image. It implements the
// source behind [manifest.Open]; the image has no children.
type artifact []byte

// Name returns the digest, since the artifact has no other name in errors.
func (a artifact) Name(h v1.Hash) string { return h.String() }

// Config returns the empty JSON object, the config of an artifact.
func (a artifact) Config(v1.Descriptor) ([]byte, error) { return ocispec.DescriptorEmptyJSON.Data, nil }

// Blob returns the document, whatever layer is asked for: there is only one.
func (a artifact) Blob(v1.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(a)), nil
}

// Child always fails, since an image has no children.
func (a artifact) Child(d v1.Descriptor) (manifest.Content, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, manifest.ErrNotFound)
}
