package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/rootfs"
)

// A Fetcher reads what a manifest names, for the content that [Open] returns. It
// verifies: all that it returns has the digest and the size of the descriptor, and
// anything else is [ErrMismatch]. It must be safe for concurrent use.
//
// A Fetcher may have a method Part(d v1.Descriptor, from, to int64) (io.ReadCloser, error)
// as well, which opens a part of a layer: the bytes from offset from up to, but not
// including, offset to. A part is not verified, since a digest covers the whole.
type Fetcher interface {
	// Name returns the name of the manifest or blob h for messages.
	Name(h v1.Hash) string
	// Child reads a child of an index: an image, an index, or what [Uninterpreted] returns.
	Child(d v1.Descriptor) (Content, error)
	// Config reads the config of an image, whose size the Fetcher bounds.
	Config(d v1.Descriptor) ([]byte, error)
	// Blob opens a layer of an image as it is stored. The caller closes it. An error of a
	// read means that no byte of the layer may be trusted.
	Blob(d v1.Descriptor) (io.ReadCloser, error)
}

// A partFetcher is a [Fetcher] that can open a part of a layer.
type partFetcher interface {
	Part(d v1.Descriptor, from, to int64) (io.ReadCloser, error)
}

// Open returns the image or the index whose manifest is raw. Everything else is read by f
// when it is needed; the result of reading the config is remembered, an error included.
// The caller has verified that raw has the digest of d, and does not change raw later.
// The media type of d may be empty ([MediaType]).
//
// The content is immutable and safe for concurrent use: its methods return copies. Each
// layer has a method Part(from, to int64) (io.ReadCloser, error), which is
// [errors.ErrUnsupported] if f has no method Part.
func Open(d v1.Descriptor, raw []byte, f Fetcher) (Content, error) {
	found, err := MediaType(raw, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(d.Digest), err)
	}
	own := document{fetch: f, raw: raw, digest: d.Digest, mediaType: found}
	if found.IsIndex() {
		im, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", own.name(), err, ErrMismatch)
		}
		return &lazyIndex{own, im}, nil
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", own.name(), err, ErrMismatch)
	}
	img := &lazyImage{document: own, parsed: m}
	img.config = sync.OnceValues(func() ([]byte, error) { return f.Config(m.Config) })
	return img, nil
}

// A document is a manifest that was read and verified.
type document struct {
	fetch     Fetcher
	raw       []byte
	digest    v1.Hash
	mediaType types.MediaType
}

func (d *document) MediaType() (types.MediaType, error) { return d.mediaType, nil }
func (d *document) RawManifest() ([]byte, error)        { return slices.Clone(d.raw), nil }
func (d *document) Digest() (v1.Hash, error)            { return d.digest, nil }
func (d *document) Size() (int64, error)                { return int64(len(d.raw)), nil }
func (d *document) name() string                        { return d.fetch.Name(d.digest) }

// A lazyIndex is an index whose children are read when they are needed. Nothing is
// remembered: a Fetcher may do that.
type lazyIndex struct {
	document
	parsed *v1.IndexManifest
}

func (x *lazyIndex) IndexManifest() (*v1.IndexManifest, error) { return x.parsed.DeepCopy(), nil }

// Image reads the image h. The index must list h.
func (x *lazyIndex) Image(h v1.Hash) (v1.Image, error) { return childAs[v1.Image](x, h, "image") }

// ImageIndex reads the index h. The index must list h.
func (x *lazyIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return childAs[v1.ImageIndex](x, h, "index")
}

// Other reads the child h of any type. It looks in the index first, so that a digest that
// the index does not list is never read.
func (x *lazyIndex) Other(h v1.Hash) (Content, error) {
	for _, d := range x.parsed.Manifests {
		if d.Digest == h {
			return x.fetch.Child(d)
		}
	}
	return nil, fmt.Errorf("%s does not list %s: %w", x.name(), h, ErrNotFound)
}

// childAs reads the child h, which must be a T.
func childAs[T Content](x *lazyIndex, h v1.Hash, noun string) (T, error) {
	var none T
	c, err := x.Other(h)
	if err != nil {
		return none, err
	}
	if own, ok := c.(T); ok {
		return own, nil
	}
	return none, fmt.Errorf("%s is not an %s: %w", x.fetch.Name(h), noun, ErrMismatch)
}

// A lazyImage is an image whose config and layers are read when they are needed.
type lazyImage struct {
	document
	parsed *v1.Manifest
	config func() ([]byte, error)
}

func (i *lazyImage) Manifest() (*v1.Manifest, error)     { return i.parsed.DeepCopy(), nil }
func (i *lazyImage) ConfigName() (v1.Hash, error)        { return i.parsed.Config.Digest, nil }
func (i *lazyImage) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(i) }

func (i *lazyImage) RawConfigFile() ([]byte, error) {
	raw, err := i.config()
	return slices.Clone(raw), err
}

// Layers returns the layers in the order of the manifest.
func (i *lazyImage) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.parsed.Layers))
	for at := range layers {
		layers[at] = &lazyLayer{i, at}
	}
	return layers, nil
}

// LayerByDigest returns a layer, or the config as a layer, as go-containerregistry
// expects.
func (i *lazyImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if h == i.parsed.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for at, d := range i.parsed.Layers {
		if d.Digest == h {
			return &lazyLayer{i, at}, nil
		}
	}
	return nil, fmt.Errorf("%s has no layer %s: %w", i.name(), h, ErrNotFound)
}

// LayerByDiffID returns the layer whose uncompressed content has digest h. It reads the
// config.
func (i *lazyImage) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	digest, err := partial.DiffIDToBlob(i, h)
	if err != nil {
		return nil, err
	}
	return i.LayerByDigest(digest)
}

// A lazyLayer is a layer of an image. It is read when it is opened, each time again. It
// is named by its position, since a manifest may list one digest twice.
type lazyLayer struct {
	image *lazyImage
	at    int
}

func (l *lazyLayer) own() *v1.Descriptor                 { return &l.image.parsed.Layers[l.at] }
func (l *lazyLayer) Digest() (v1.Hash, error)            { return l.own().Digest, nil }
func (l *lazyLayer) Size() (int64, error)                { return l.own().Size, nil }
func (l *lazyLayer) MediaType() (types.MediaType, error) { return l.own().MediaType, nil }
func (l *lazyLayer) Descriptor() (*v1.Descriptor, error) { return l.own().DeepCopy(), nil }

// DiffID returns the digest that the config gives. The layer is not read, so it is not
// proven.
func (l *lazyLayer) DiffID() (v1.Hash, error) {
	config, err := l.image.ConfigFile()
	if err != nil {
		return v1.Hash{}, err
	}
	if l.at >= len(config.RootFS.DiffIDs) {
		return v1.Hash{}, fmt.Errorf("%s: %d layers and %d diff IDs: %w", l.image.name(), len(l.image.parsed.Layers), len(config.RootFS.DiffIDs), ErrMismatch)
	}
	return config.RootFS.DiffIDs[l.at], nil
}

// Compressed opens the layer as it is stored. The content is verified while it is read.
func (l *lazyLayer) Compressed() (io.ReadCloser, error) { return l.image.fetch.Blob(*l.own()) }

// Uncompressed opens the content of the layer, decompressed.
func (l *lazyLayer) Uncompressed() (io.ReadCloser, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return rootfs.Uncompress(r)
}

// Part opens a part of the layer as it is stored, not verified.
func (l *lazyLayer) Part(from, to int64) (io.ReadCloser, error) {
	if f, ok := l.image.fetch.(partFetcher); ok {
		return f.Part(*l.own(), from, to)
	}
	return nil, fmt.Errorf("a part of %s: %w", l.own().Digest, errors.ErrUnsupported)
}
