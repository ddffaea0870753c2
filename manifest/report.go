package manifest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Report says what a reference names and on which platforms it runs. Its JSON is
// stable: docs/inspect.schema.json describes it. Index is false for a single image or
// artifact. ArtifactType is that of the index or of a single artifact. Subject is the
// digest of the subject of an index.
type Report struct {
	Ref          string            `json:"ref"`
	Digest       v1.Hash           `json:"digest"`
	MediaType    types.MediaType   `json:"mediaType"`
	Index        bool              `json:"index"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Subject      *v1.Hash          `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Notes        []string          `json:"notes,omitempty"`     // like those of a Runnable
	Referrers    []Attached        `json:"referrers,omitempty"` // of the index or artifact itself
	Platforms    []Runnable        `json:"platforms"`           // in the order of the index
	Others       []Other           `json:"others,omitempty"`
}

// A Runnable is an image of a [Report].
type Runnable struct {
	// Platform has the spelling of platform.Key; "" if neither the index nor the config
	// has one.
	Platform string `json:"platform"`
	// FromConfig is set if the index does not have a complete platform for the image, so
	// that the platform comes from its config.
	FromConfig bool `json:"fromConfig,omitempty"`
	// Written is the platform as the index or config has it, if its spelling is not
	// canonical: linux/x86_64. Some runtimes do not find such an image.
	Written string          `json:"written,omitempty"`
	Digest  v1.Hash         `json:"digest"`
	Type    types.MediaType `json:"mediaType"`
	// Size is the size of manifest, config and layers as they are stored, in bytes; 0 if
	// it was not asked for.
	Size int64 `json:"size,omitempty"`
	// Within is the nested index that lists the image; nil for an image of the first
	// index.
	Within *v1.Hash `json:"within,omitempty"`
	// Notes say what is known about the image: "attested" for attestations that were not
	// read, or else "sbom", "provenance", "signature (not verified)", and the artifact
	// types of other referrers.
	Notes []string `json:"notes,omitempty"`
	// Referrers are the attestations and the referrers of the image, if they were asked
	// for.
	Referrers []Attached `json:"referrers,omitempty"`
	// Double is set if several images have the platform. It says which of them this is,
	// and the media type and annotations by which they differ. Where one image is needed,
	// the first is used.
	Double      string            `json:"double,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // in the index
	Image       *Detail           `json:"image,omitempty"`
}

// An Attached is a statement about an image or index: a referrer, or a statement in an
// attestation of BuildKit. What it says is not verified.
type Attached struct {
	Kind          string          `json:"kind"` // like a note of a Runnable
	Digest        v1.Hash         `json:"digest"`
	Type          types.MediaType `json:"mediaType"`
	ArtifactType  string          `json:"artifactType,omitempty"`
	PredicateType string          `json:"predicateType,omitempty"` // of an in-toto statement
	// Signed is set if it comes with a signature, or is one. The signature is not checked.
	Signed bool `json:"signed,omitempty"`
	// Size is the size of the manifest in bytes, without what it lists.
	Size    int64   `json:"size"`
	Subject v1.Hash `json:"subject"`
}

// An Other is an entry of an index that is neither an image nor the attestation of one.
type Other struct {
	Digest       v1.Hash         `json:"digest"`
	Type         types.MediaType `json:"mediaType"`
	ArtifactType string          `json:"artifactType,omitempty"`
}

// A Detail is what the config and the manifest of an image say (image-spec, config.md).
// Created is in UTC and whole seconds. BaseName and BaseDigest come from annotations of
// the manifest.
type Detail struct {
	Created     *time.Time        `json:"created,omitempty"`
	User        string            `json:"user,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"`
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Cmd         []string          `json:"cmd,omitempty"`
	Env         []string          `json:"env,omitempty"`
	Ports       []string          `json:"ports,omitempty"`
	Volumes     []string          `json:"volumes,omitempty"`
	StopSignal  string            `json:"stopSignal,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // in the manifest
	BaseName    string            `json:"baseName,omitempty"`
	BaseDigest  string            `json:"baseDigest,omitempty"`
	Layers      []Layer           `json:"layers"`
}

// A Layer is a layer of an image; Size is in bytes, as it is stored.
type Layer struct {
	Digest v1.Hash         `json:"digest"`
	Type   types.MediaType `json:"mediaType"`
	Size   int64           `json:"size"`
}

// The rest reads what a report says about one image beyond its descriptor.

// manifest reads the image that e describes, and its manifest.
func (e *Entry) manifest() (v1.Image, *v1.Manifest, error) {
	img, err := e.Image()
	if err != nil {
		return nil, nil, err
	}
	m, err := img.Manifest()
	return img, m, err
}

// weigh returns the size of manifest, config and layers in bytes, as they are stored. The
// sizes come from outside: a negative one or an overflow is [ErrMismatch].
func weigh(img v1.Image, m *v1.Manifest) (int64, error) {
	size, err := img.Size()
	if err != nil {
		return 0, err
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if d.Size < 0 || d.Size > math.MaxInt64-size {
			return 0, fmt.Errorf("%s: a size of %d: %w", d.Digest, d.Size, ErrMismatch)
		}
		size += d.Size
	}
	return size, nil
}

// detailOf returns what the config and the manifest of an image say. It reads the config.
func detailOf(img v1.Image, m *v1.Manifest) (*Detail, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c := file.Config
	d := &Detail{
		User: c.User, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		StopSignal: c.StopSignal, Labels: c.Labels, Annotations: m.Annotations, Layers: []Layer{},
		BaseName: m.Annotations[ocispec.AnnotationBaseImageName], BaseDigest: m.Annotations[ocispec.AnnotationBaseImageDigest],
	}
	if t := file.Created.Time; !t.IsZero() {
		t = t.UTC().Truncate(time.Second)
		d.Created = &t
	}
	for _, l := range m.Layers {
		d.Layers = append(d.Layers, Layer{Digest: l.Digest, Type: l.MediaType, Size: l.Size})
	}
	return d, nil
}

// list joins the items that are not empty, for messages.
func list(items []string) string {
	var named []string
	for _, item := range items {
		if item != "" {
			named = append(named, item)
		}
	}
	if len(named) == 0 {
		return "nothing"
	}
	return strings.Join(named, ", ")
}
