package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// Bounds of what a place may hold or be given.
const (
	maxManifest = 4 << 20 // bytes of a manifest or config, as registries have it
	maxDepth    = 8       // of indexes within indexes
	maxBlobs    = 100_000
)

// A blob is a part of an image, or a manifest.
type blob struct {
	desc v1.Descriptor
	open func() (io.ReadCloser, error)
}

// A walk lists what content reaches, each digest once, parts before what they
// are parts of.
type walk struct {
	ctx   context.Context
	seen  map[v1.Hash]bool
	blobs []blob
	// stored gives children that their index does not hold because they are
	// in the target already. It may be nil.
	stored func(v1.Descriptor) (manifest.Content, error)
}

// add lists c and what it reaches. d is c's descriptor.
func (w *walk) add(c manifest.Content, d v1.Descriptor, depth int) error {
	if w.seen == nil {
		w.seen = map[v1.Hash]bool{}
	}
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if w.seen[d.Digest] {
		return nil
	}
	is, err := manifest.Describe(c)
	if err != nil {
		return err
	}
	if is.Digest != d.Digest {
		return mismatch("%s has the digest %s", d.Digest, is.Digest)
	}
	switch c := c.(type) {
	case v1.ImageIndex:
		err = w.children(c, depth+1)
	case v1.Image:
		err = w.parts(c)
	case manifest.Bytes:
	default:
		err = fmt.Errorf("neither an image nor an index: %T", c)
	}
	if err != nil {
		return err
	}
	raw, err := c.RawManifest()
	if err != nil {
		return err
	}
	return w.bytes(is, raw)
}

func (w *walk) children(idx v1.ImageIndex, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("indexes are nested deeper than %d", maxDepth)
	}
	im, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range im.Manifests {
		if w.seen[d.Digest] {
			continue
		}
		child, err := manifest.ChildOf(idx, d)
		if errors.Is(err, manifest.ErrNotFound) && w.stored != nil {
			child, err = w.stored(d)
		}
		if err != nil {
			return err
		}
		if err := w.add(child, d, depth); err != nil {
			return err
		}
	}
	return nil
}

// parts lists config and layers. Layers that are stored elsewhere stay there.
func (w *walk) parts(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if err := w.bytes(m.Config, config); err != nil {
		return err
	}
	for _, d := range m.Layers {
		if manifest.Elsewhere(d) {
			continue
		}
		if err := w.list(blob{d, func() (io.ReadCloser, error) {
			l, err := img.LayerByDigest(d.Digest)
			if err != nil {
				return nil, err
			}
			return l.Compressed()
		}}); err != nil {
			return err
		}
	}
	return nil
}

// bytes lists a blob that is in memory.
func (w *walk) bytes(d v1.Descriptor, raw []byte) error {
	return w.list(blob{d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }})
}

func (w *walk) list(b blob) error {
	if w.seen[b.desc.Digest] {
		return nil
	}
	if len(w.blobs) >= maxBlobs {
		return fmt.Errorf("more than %d blobs", maxBlobs)
	}
	w.seen[b.desc.Digest] = true
	w.blobs = append(w.blobs, b)
	return nil
}
