package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// image reads the image and its manifest.
func (s *sight) image() (v1.Image, *v1.Manifest, error) {
	c, err := s.open()
	if err != nil {
		return nil, nil, err
	}
	img, ok := c.(v1.Image)
	if !ok {
		return nil, nil, fmt.Errorf("%s is no image: %w", s.Digest, ErrMismatch)
	}
	m, err := img.Manifest()
	return img, m, err
}

// artifactType returns the type of what has the manifest of an image and is none,
// "" for an image (image-spec, manifest.md, "Guidelines for artifact usage").
func artifactType(img v1.Image, m *v1.Manifest) (string, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return "", err
	}
	var claim struct {
		ArtifactType string `json:"artifactType"`
	}
	if err := json.Unmarshal(raw, &claim); err != nil {
		return "", fmt.Errorf("%w: %w", err, ErrMismatch)
	}
	switch {
	case claim.ArtifactType != "":
		return claim.ArtifactType, nil
	case !m.Config.MediaType.IsConfig() && m.Config.MediaType != "" && m.Config.MediaType != "application/octet-stream":
		return string(m.Config.MediaType), nil
	case len(m.Layers) > 0 && m.Layers[0].MediaType == inTotoLayer:
		return inTotoLayer, nil
	}
	return "", nil
}

// weigh adds up manifest, config and layers.
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

// list joins what there is for a person to read.
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
