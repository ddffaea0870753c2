package build

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// candidates is a base before a platform was chosen.
type candidates struct {
	ref      string
	root     v1.Hash
	index    v1.ImageIndex // or
	image    v1.Image
	children []v1.Descriptor // of the index, those that are images
}

// get gets a base once, with ctx for its lazy parts too.
func (b *bases) get(ctx context.Context, ref string) (*candidates, error) {
	b.mu.Lock()
	once, ok := b.got[ref]
	if !ok {
		once = sync.OnceValues(func() (*candidates, error) { return b.fetch(ctx, ref) })
		if b.got == nil {
			b.got = map[string]func() (*candidates, error){}
		}
		b.got[ref] = once
	}
	b.mu.Unlock()
	return once()
}

func (b *bases) fetch(ctx context.Context, ref string) (*candidates, error) {
	if b.source == nil {
		return nil, &BaseError{Ref: ref, Err: errors.New("no source of bases"), Way: "use static or scratch"}
	}
	content, err := b.source.Get(ctx, ref)
	if err != nil {
		return nil, &BaseError{Ref: ref, Err: err}
	}
	c := &candidates{ref: ref}
	if c.root, err = content.Digest(); err != nil {
		return nil, &BaseError{Ref: ref, Err: err}
	}
	switch content := content.(type) {
	case v1.Image:
		c.image = content
	case v1.ImageIndex:
		c.index = content
		im, err := content.IndexManifest()
		if err != nil {
			return nil, &BaseError{Ref: ref, Err: err}
		}
		for _, d := range im.Manifests {
			if d.MediaType.IsImage() && d.Platform != nil && !manifest.IsAttestation(d) {
				c.children = append(c.children, d)
			}
		}
	default:
		return nil, &BaseError{Ref: ref, Err: errors.New("is neither an image nor an index")}
	}
	return c, nil
}

// platforms returns what the base runs on, in the order of its children.
func (c *candidates) platforms() ([]ocispec.Platform, error) {
	if c.image != nil {
		config, err := c.image.ConfigFile()
		if err != nil {
			return nil, err
		}
		return []ocispec.Platform{platform.OfConfig(config)}, nil
	}
	list := make([]ocispec.Platform, len(c.children))
	for i, d := range c.children {
		list[i] = platform.FromV1(d.Platform)
	}
	return list, nil
}

// foundation reads the chosen child for the wanted platform and checks it
// against its descriptor.
func (c *candidates) foundation(position int, want ocispec.Platform) (f foundation, err error) {
	fail := func(err error) (foundation, error) { return f, &BaseError{Ref: c.ref, Err: err} }
	f.image, f.root = c.image, c.root
	if c.index != nil {
		if f.image, err = c.index.Image(c.children[position].Digest); err != nil {
			return fail(err)
		}
	}
	config, err := f.image.ConfigFile()
	if err != nil {
		return fail(err)
	}
	f.config = *config.DeepCopy()
	if c.index != nil {
		declared, claimed := platform.FromV1(c.children[position].Platform), platform.OfConfig(config)
		if contradicts(*c.children[position].Platform, *config.Platform()) {
			return fail(fmt.Errorf("%w: the index calls %s %s, its config says %s", manifest.ErrMismatch,
				c.children[position].Digest, platform.Key(declared), platform.Key(claimed)))
		}
		if want.OSVersion == "" && f.config.OSVersion == "" {
			f.config.OSVersion = declared.OSVersion
		}
	}
	if f.digest, err = f.image.Digest(); err != nil {
		return fail(err)
	}
	if f.layers, err = f.image.Layers(); err != nil {
		return fail(err)
	}
	m, err := f.image.Manifest()
	if err != nil {
		return fail(err)
	}
	if len(m.Layers) != len(f.layers) {
		return fail(fmt.Errorf("%w: %d layers in the manifest, %d to be had", manifest.ErrMismatch, len(m.Layers), len(f.layers)))
	}
	if said := len(f.config.RootFS.DiffIDs); said != len(m.Layers) {
		return fail(fmt.Errorf("%w: %s: %d layers in the manifest, %d in the config", manifest.ErrMismatch, platform.Key(want), len(m.Layers), said))
	}
	f.descriptors = m.DeepCopy().Layers
	f.name, _ = withoutDigest(c.ref)
	return f, nil
}

// contradicts reports whether an index and a config name different platforms; a
// field that one of them leaves empty is no contradiction.
func contradicts(declared, claimed v1.Platform) bool {
	d, c := platform.FromV1(&declared), platform.FromV1(&claimed)
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	if declared.Variant != "" && claimed.Variant != "" && d.Variant != c.Variant {
		return true
	}
	return differ(d.OS, c.OS) || differ(d.Architecture, c.Architecture) || differ(d.OSVersion, c.OSVersion)
}

// describe returns the descriptor of a layer that mabuild made.
func describe(l v1.Layer) (v1.Descriptor, error) {
	digest, err := l.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := l.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, nil
}
