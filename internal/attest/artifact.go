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

// Artifact wraps a document as an artifact that refers to subject (image-spec,
// manifest.md, "Guidelines for Artifact Usage"): an empty config, and one layer
// called name.
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

// An artifact is a document, the one layer of its image.
type artifact []byte

func (a artifact) Name(h v1.Hash) string                { return h.String() }
func (a artifact) Config(v1.Descriptor) ([]byte, error) { return ocispec.DescriptorEmptyJSON.Data, nil }

func (a artifact) Blob(v1.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(a)), nil
}

func (a artifact) Child(d v1.Descriptor) (manifest.Content, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, manifest.ErrNotFound)
}
