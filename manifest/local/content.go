package local

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest"
)

// A store opens blobs. What it opens is not verified, except that it is a
// regular file of the descriptor's size.
type store interface {
	open(d v1.Descriptor) (io.ReadCloser, error)
	// has reports whether there is something of d's digest and size.
	has(d v1.Descriptor) bool
}

// read returns the content that d describes, its manifest verified.
func read(ctx context.Context, s store, d v1.Descriptor) (manifest.Content, error) {
	raw, err := small(ctx, func() (io.ReadCloser, error) { return s.open(d) }, d)
	if err != nil {
		return nil, err
	}
	found, err := manifest.MediaType(raw, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	own := document{ctx: ctx, store: s, raw: raw, desc: v1.Descriptor{MediaType: found, Digest: d.Digest, Size: d.Size}}
	if found.IsIndex() {
		im, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, mismatch("%s: %w", d.Digest, err)
		}
		return &index{own, im}, nil
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, mismatch("%s: %w", d.Digest, err)
	}
	img := &image{document: own, parsed: m}
	img.config = sync.OnceValues(func() ([]byte, error) {
		return small(ctx, func() (io.ReadCloser, error) { return s.open(m.Config) }, m.Config)
	})
	return img, nil
}

// A document is a manifest that was read and verified.
type document struct {
	ctx   context.Context // under which the rest is read, as Get promises
	store store
	raw   []byte
	desc  v1.Descriptor
}

func (d *document) MediaType() (types.MediaType, error) { return d.desc.MediaType, nil }
func (d *document) RawManifest() ([]byte, error)        { return slices.Clone(d.raw), nil }
func (d *document) Digest() (v1.Hash, error)            { return d.desc.Digest, nil }
func (d *document) Size() (int64, error)                { return d.desc.Size, nil }

// An index is the lazy [v1.ImageIndex] of a manifest in a store.
type index struct {
	document
	parsed *v1.IndexManifest
}

var _ v1.ImageIndex = (*index)(nil)

func (x *index) IndexManifest() (*v1.IndexManifest, error) { return x.parsed.DeepCopy(), nil }

func (x *index) Image(h v1.Hash) (v1.Image, error) {
	c, err := x.child(h)
	if err != nil {
		return nil, err
	}
	if img, ok := c.(v1.Image); ok {
		return img, nil
	}
	return nil, mismatch("%s is not an image", h)
}

func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	c, err := x.child(h)
	if err != nil {
		return nil, err
	}
	if idx, ok := c.(v1.ImageIndex); ok {
		return idx, nil
	}
	return nil, mismatch("%s is not an index", h)
}

// Other returns a child whose media type is unknown.
func (x *index) Other(h v1.Hash) (manifest.Content, error) {
	for _, d := range x.parsed.Manifests {
		if d.Digest != h {
			continue
		}
		raw, err := small(x.ctx, func() (io.ReadCloser, error) { return x.store.open(d) }, d)
		if err != nil {
			return nil, err
		}
		return manifest.Uninterpreted(d, raw, func(d v1.Descriptor) (manifest.Content, error) { return read(x.ctx, x.store, d) })
	}
	return nil, notFound("%s does not list %s", x.desc.Digest, h)
}

func (x *index) child(h v1.Hash) (manifest.Content, error) {
	for _, d := range x.parsed.Manifests {
		if d.Digest == h {
			return read(x.ctx, childStore{x.store, x}, d)
		}
	}
	return nil, notFound("%s does not list %s", x.desc.Digest, h)
}

// An image is the lazy [v1.Image] of a manifest in a store.
type image struct {
	document
	parsed *v1.Manifest
	config func() ([]byte, error)
}

var _ v1.Image = (*image)(nil)

func (i *image) Manifest() (*v1.Manifest, error)     { return i.parsed.DeepCopy(), nil }
func (i *image) ConfigName() (v1.Hash, error)        { return i.parsed.Config.Digest, nil }
func (i *image) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(i) }
func (i *image) RawConfigFile() ([]byte, error)      { return i.config() }

func (i *image) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.parsed.Layers))
	for at := range i.parsed.Layers {
		layers[at] = &layer{i, at}
	}
	return layers, nil
}

func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if h == i.parsed.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for at, d := range i.parsed.Layers {
		if d.Digest == h {
			return &layer{i, at}, nil
		}
	}
	return nil, notFound("%s has no layer %s", i.desc.Digest, h)
}

func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	digest, err := partial.DiffIDToBlob(i, h)
	if err != nil {
		return nil, err
	}
	return i.LayerByDigest(digest)
}

// A layer is a blob of an image, read when asked for.
type layer struct {
	image *image
	at    int
}

var _ v1.Layer = (*layer)(nil)

func (l *layer) own() *v1.Descriptor                 { return &l.image.parsed.Layers[l.at] }
func (l *layer) Digest() (v1.Hash, error)            { return l.own().Digest, nil }
func (l *layer) Size() (int64, error)                { return l.own().Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.own().MediaType, nil }
func (l *layer) Descriptor() (*v1.Descriptor, error) { return l.own().DeepCopy(), nil }

// DiffID is what the config says; the layer is not read for it.
func (l *layer) DiffID() (v1.Hash, error) {
	config, err := l.image.ConfigFile()
	if err != nil {
		return v1.Hash{}, err
	}
	if l.at >= len(config.RootFS.DiffIDs) {
		return v1.Hash{}, mismatch("%s: %d layers and %d diff IDs", l.image.desc.Digest, len(l.image.parsed.Layers), len(config.RootFS.DiffIDs))
	}
	return config.RootFS.DiffIDs[l.at], nil
}

// Compressed reads the layer as it is, verified.
func (l *layer) Compressed() (io.ReadCloser, error) {
	r, err := l.image.store.open(*l.own())
	if err != nil {
		return nil, err
	}
	v, err := verify(l.image.ctx, r, *l.own())
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return closing{v, r}, nil
}

func (l *layer) Uncompressed() (io.ReadCloser, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return rootfs.Uncompress(r)
}
