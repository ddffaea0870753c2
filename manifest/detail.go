package manifest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// This file reads what a report says about one image beyond its descriptor.

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
