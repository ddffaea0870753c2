package registry

import (
	"bytes"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// An index is the lazy [v1.ImageIndex] of a manifest in a registry.
type index struct {
	document
	parsed *v1.IndexManifest
}

var _ v1.ImageIndex = (*index)(nil)

func newIndex(d document) (*index, error) {
	im, err := v1.ParseIndexManifest(bytes.NewReader(d.raw))
	if err != nil {
		return nil, mismatch("%s: %w", d.repo.by(d.digest), err)
	}
	return &index{document: d, parsed: im}, nil
}

func (x *index) IndexManifest() (*v1.IndexManifest, error) { return x.parsed.DeepCopy(), nil }

// Image reads the image h, which the index must list.
func (x *index) Image(h v1.Hash) (v1.Image, error) {
	content, err := x.child(h)
	if err != nil {
		return nil, err
	}
	img, ok := content.(v1.Image)
	if !ok {
		return nil, mismatch("%s is not an image", x.repo.by(h))
	}
	return img, nil
}

// ImageIndex reads the index h, which the index must list.
func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	content, err := x.child(h)
	if err != nil {
		return nil, err
	}
	inner, ok := content.(v1.ImageIndex)
	if !ok {
		return nil, mismatch("%s is not an index", x.repo.by(h))
	}
	return inner, nil
}

// Other reads a child whose media type is unknown.
func (x *index) Other(h v1.Hash) (manifest.Content, error) {
	for _, d := range x.parsed.Manifests {
		if d.Digest != h {
			continue
		}
		raw, err := x.client.uninterpreted(x.ctx, x.repo, d)
		if err != nil {
			return nil, err
		}
		return manifest.Uninterpreted(d, raw, func(d v1.Descriptor) (manifest.Content, error) {
			return x.client.content(x.ctx, x.repo, raw, d)
		})
	}
	return nil, fmt.Errorf("%s does not list %s", x.repo.by(x.digest), h)
}

func (x *index) child(h v1.Hash) (manifest.Content, error) {
	for _, d := range x.parsed.Manifests {
		if d.Digest == h {
			return x.client.get(x.ctx, x.repo.by(h), d)
		}
	}
	return nil, fmt.Errorf("%s does not list %s", x.repo.by(x.digest), h)
}
