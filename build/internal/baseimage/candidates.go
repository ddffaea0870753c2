package baseimage

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A candidates is the content of a base reference before a platform is chosen.
type candidates struct {
	ref    string
	root   v1.Hash          // of the index or the single image
	index  bool             // false: the reference is a single image
	images []manifest.Entry // those that a program can be added to
}

// get reads a base once. Lazy parts of the base are also read with the context of the
// first call.
func (r *Reader) get(ctx context.Context, ref string) (*candidates, error) {
	return r.got.Do(ctx, ref, func() (*candidates, error) { return r.fetch(ctx, ref) })
}

// fetch reads a base from the source and lists its images.
func (r *Reader) fetch(ctx context.Context, ref string) (*candidates, error) {
	if r.Source == nil {
		return nil, &Error{Ref: ref, Err: errors.New("no source of base images"), Way: "use static or scratch"}
	}
	content, err := r.Source.Get(ctx, ref)
	if err != nil {
		return nil, &Error{Ref: ref, Err: err}
	}
	c := &candidates{ref: ref}
	if err := c.list(content); err != nil {
		return nil, &Error{Ref: ref, Err: err}
	}
	if len(c.images) == 0 {
		return nil, c.invalid(content)
	}
	return c, nil
}

// list sets images to the images of content that can be a base. It skips artifacts,
// images without a known platform and WebAssembly modules, which have no file system.
func (c *candidates) list(content manifest.Content) (err error) {
	if c.root, err = content.Digest(); err != nil {
		return err
	}
	_, c.index = content.(v1.ImageIndex)
	entries, err := manifest.Identified(content)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Kind != manifest.KindImage || !e.Placed() {
			continue
		}
		module, err := e.Module()
		if err != nil {
			return err
		}
		if !module {
			c.images = append(c.images, e)
		}
	}
	return nil
}

// invalid returns the error for content without any usable image. For a single image it
// says why this image cannot be used.
func (c *candidates) invalid(content manifest.Content) error {
	e := &Error{Ref: c.ref, Err: errors.New("has no image with a known platform"), Way: "mabuild inspect " + c.ref + " lists its images"}
	if c.index {
		return e
	}
	if entries, err := manifest.Identified(content); err == nil {
		switch one := entries[0]; {
		case one.Kind == manifest.KindArtifact:
			e.Err, e.Way = fmt.Errorf("is an artifact (%s), not an image", one.Type), ""
		case one.Placed():
			e.Err, e.Way = errors.New("is a WebAssembly module and has no file system"), "use scratch"
		default:
			e.Err, e.Way = errors.New("its config has no platform"), "create an index that declares it: mabuild manifest create NEW "+c.ref+"=linux/amd64"
		}
	}
	return e
}

// platforms returns the platforms of the images, in the order of the images.
func (c *candidates) platforms() []ocispec.Platform {
	list := make([]ocispec.Platform, len(c.images))
	for i, e := range c.images {
		list[i] = e.Platform
	}
	return list
}

// image reads the manifest and the config of an image and compares them with its
// descriptor. It does not read layers. The manifest and the config must list the same
// number of layers: a layer is added to both lists, so a difference in a broken base
// would pair the wrong digests (image-spec, config.md, rootfs).
func (c *candidates) image(position int, want ocispec.Platform) (f Image, err error) {
	fail := func(err error) (Image, error) { return f, &Error{Ref: c.ref, Err: err} }
	e := c.images[position]
	f.Root = c.root
	if f.Image, err = e.Image(); err != nil {
		return fail(err)
	}
	config, err := e.Check(f.Image)
	if err != nil {
		return fail(err)
	}
	// The config is shared with the source, which may cache it.
	f.Config = *config.DeepCopy()
	// The version of Windows may be only in the descriptor of the index.
	if c.index && want.OSVersion == "" && f.Config.OSVersion == "" {
		f.Config.OSVersion = e.Platform.OSVersion
	}
	if f.Digest, err = f.Image.Digest(); err != nil {
		return fail(err)
	}
	if f.Layers, err = f.Image.Layers(); err != nil {
		return fail(err)
	}
	m, err := f.Image.Manifest()
	if err != nil {
		return fail(err)
	}
	if len(m.Layers) != len(f.Layers) {
		return fail(fmt.Errorf("%w: %d layers in the manifest, %d available", manifest.ErrMismatch, len(m.Layers), len(f.Layers)))
	}
	if said := len(f.Config.RootFS.DiffIDs); said != len(m.Layers) {
		return fail(fmt.Errorf("%w: %s: %d layers in the manifest, %d in the config", manifest.ErrMismatch, platform.Key(want), len(m.Layers), said))
	}
	f.Descriptors = m.DeepCopy().Layers
	f.Name, _ = withoutDigest(c.ref)
	return f, nil
}
