package registry

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// byDigest stores content that is at hand under its digest.
func (c *Client) byDigest(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	return onceARun(ctx, &c.session.exists.manifests, r.at(d.Digest), func() error {
		if img, ok := content.(v1.Image); ok {
			if stored, err := c.pushFresh(ctx, r, d, img); stored || err != nil {
				return err
			}
		}
		return c.storeIfAbsent(ctx, r, d, func() (manifest.Content, error) { return content, nil })
	})
}

// Found reports whether what ref names by its digest was there already when a Put of
// this run first asked for it, or whether a tag already named what was Put there: false
// if this run never asked for it, or had to store it.
func (c *Client) Found(ref string) bool {
	r, err := c.parse(ref)
	return err == nil && c.session.exists.found.has(r.String())
}

// pushFresh stores img by digest where a tag that names nothing yet is to name it. The
// image is most likely not there, so its config is asked for first, or the first layer
// of an artifact, whose config is everybody's: without that the image cannot be whole,
// and is sent without being asked for. It reports whether that was so.
func (c *Client) pushFresh(ctx context.Context, r repository, d v1.Descriptor, img v1.Image) (bool, error) {
	if !c.session.tags.empty.has(r.key()) {
		return false, nil
	}
	m, err := img.Manifest()
	if err != nil {
		return false, err
	}
	sign := configOf(img, m.Config)
	if m.Config.MediaType == ocispec.MediaTypeEmptyJSON && len(m.Layers) > 0 {
		d := m.Layers[0]
		sign = layerOf(func() (v1.Layer, error) { return img.LayerByDigest(d.Digest) }, d)
	}
	at := r.at(sign.Digest)
	if _, done := c.session.exists.blobs.Get(at); done {
		return false, nil
	}
	there, _, err := c.has(ctx, r, sign)
	if err != nil {
		return false, err
	}
	if there {
		c.session.exists.blobs.Set(at, struct{}{})
		return false, nil
	}
	c.session.exists.missing.add(at)
	return true, c.complete(ctx, r, d, img)
}

// storeChild stores content by digest unless it is there. What it reaches is believed
// to be there with it, but for the children of an index. content is asked for
// only when it is needed.
func (c *Client) storeChild(ctx context.Context, r repository, d v1.Descriptor, content func() (manifest.Content, error)) error {
	return onceARun(ctx, &c.session.exists.manifests, r.at(d.Digest), func() error { return c.storeIfAbsent(ctx, r, d, content) })
}

// storeIfAbsent asks for a child and stores it if it is not there, or if the registry does
// not say.
func (c *Client) storeIfAbsent(ctx context.Context, r repository, d v1.Descriptor, content func() (manifest.Content, error)) error {
	found, absent := c.head(ctx, r.by(d.Digest))
	if unanswered(absent) {
		found, absent = c.insist(ctx, r.by(d.Digest), absent)
	}
	if absent != nil && !missing(absent) && !unanswered(absent) {
		return absent
	}
	there := absent == nil
	if there && d.Size != 0 && found.Size != d.Size {
		return mismatch("%s: %d bytes in the registry, %d in its descriptor", r.by(d.Digest), found.Size, d.Size)
	}
	if there {
		c.session.exists.found.add(r.by(d.Digest).String())
	}
	if there && !d.MediaType.IsIndex() && !c.Verify {
		return nil
	}
	own, err := content()
	if there && err != nil && ctx.Err() == nil { // what is not at hand is read where it is
		own, err = c.get(ctx, r.by(d.Digest), d)
	}
	if err != nil {
		return unavailable(err, absent)
	}
	if there {
		return c.repair(ctx, r, own)
	}
	is, err := manifest.Describe(own)
	if err != nil {
		return err
	}
	if is.Digest != d.Digest {
		return mismatch("%s has the digest %s", d.Digest, is.Digest)
	}
	return c.complete(ctx, r, d, own)
}

// complete stores all that content reaches, then content by its digest.
func (c *Client) complete(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	if err := c.fill(ctx, r, content); err != nil {
		return err
	}
	return c.putManifest(ctx, r.by(d.Digest), d, content)
}

// unavailable makes the error of a child that the registry lacks and whose content
// is not at hand either. To the one who pushes that is no [manifest.ErrNotFound]:
// nothing that was asked for by name is missing.
func unavailable(err, absent error) error {
	at := asError(absent)
	if at == nil || asError(err) != nil || !errors.Is(err, manifest.ErrNotFound) {
		return err
	}
	e := *at
	e.missing, e.final, e.Err = false, true, errors.New(clean(err.Error()))
	return &e
}
