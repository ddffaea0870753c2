package local

import (
	"bytes"
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// This file lists what a Put has to write. Layouts, archives and containerd write the
// same list, each in its own way.

// Bounds of what a place may hold or be given. The first is the size of manifests that
// clients and registries have to support (distribution-spec, "Pushing Manifests").
const (
	maxManifest = 4 << 20 // bytes of a manifest, config or index.json
	maxBlobs    = 100_000 // of one Put
)

// A blob is a manifest, config or layer to be written. open may be called more than once.
type blob struct {
	desc v1.Descriptor
	open func() (io.ReadCloser, error)
}

// A walk lists all blobs that content names, each digest once, and each blob before the
// manifest that names it. A sink may write them in another order if nothing can be read
// before the last blob is written. A walk is for one goroutine.
type walk struct {
	ctx   context.Context
	seen  map[v1.Hash]bool
	blobs []blob
	// stored returns a child that its index does not have because the target has it. It
	// may be nil.
	stored func(v1.Descriptor) (manifest.Content, error)
}

// add lists c and all that it names. Manifests and configs are read now, layers when they
// are written.
func (w *walk) add(c manifest.Content) error {
	if w.seen == nil {
		w.seen = map[v1.Hash]bool{}
	}
	return manifest.Walk(c, w.stored, func(n manifest.Node) error {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		if w.seen[n.Descriptor.Digest] {
			return nil
		}
		c, err := n.Open()
		if err != nil {
			return err
		}
		if img, ok := c.(v1.Image); ok {
			if err := w.parts(img); err != nil {
				return err
			}
		}
		d, err := manifest.Describe(c)
		if err != nil {
			return err
		}
		raw, err := c.RawManifest()
		if err != nil {
			return err
		}
		return w.bytes(d, raw)
	})
}

// parts lists the config and the layers of an image, without non-distributable layers
// that have URLs ([manifest.External]).
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
		if manifest.External(d) {
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

// list adds b unless its digest is listed.
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
