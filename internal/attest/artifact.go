package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
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
	return partial.CompressedToImage(&artifact{raw, document})
}

// An artifact is what [partial.CompressedToImage] wants to know.
type artifact struct{ manifest, document []byte }

func (a *artifact) RawConfigFile() ([]byte, error)      { return ocispec.DescriptorEmptyJSON.Data, nil }
func (a *artifact) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func (a *artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	m, err := partial.Manifest(a)
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		if d.Digest == h {
			return &layer{d, a.document}, nil
		}
	}
	return nil, fmt.Errorf("layer %s: not in the artifact", h)
}

// A layer is a document.
type layer struct {
	own      v1.Descriptor
	document []byte
}

func (l *layer) Digest() (v1.Hash, error)            { return l.own.Digest, nil }
func (l *layer) Size() (int64, error)                { return l.own.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.own.MediaType, nil }
func (l *layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.document)), nil
}
func (l *layer) Descriptor() (*v1.Descriptor, error) { return &l.own, nil }
