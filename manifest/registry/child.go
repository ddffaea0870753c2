package registry

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// byDigest stores content, which the caller has, under its digest, once in a run.
func (c *Client) byDigest(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	return onceARun(ctx, &c.session.exists.manifests, r.at(d.Digest), func() error {
		img, isImage := content.(v1.Image)
		if isImage {
			if stored, err := c.pushFresh(ctx, r, d, img); stored || err != nil {
				return err
			}
		}
		err := c.storeIfAbsent(ctx, r, d, func(bool) (manifest.Content, error) { return content, nil })
		if isImage && err == nil { // also if it existed, so that others mount its blobs
			err = c.session.exists.addImage(r, img)
		}
		return err
	})
}

// Found reports whether content existed before this run stored anything: for a digest,
// that it was there when a Put of this run first asked for it; for a tag, that it already
// named what was Put there. It is false if no Put of this run asked, or if Put stored the
// content.
func (c *Client) Found(ref string) bool {
	r, err := c.parse(ref)
	return err == nil && c.session.exists.found.has(r.String())
}

// pushFresh stores img by digest in a repository where the tag to be written names
// nothing. Most likely the image is new, so a HEAD for its manifest would usually be
// wasted. pushFresh asks for its config instead: if the config is missing, the image
// cannot be complete, and everything is sent without a HEAD for the manifest. An artifact
// with the empty config, which many repositories have, is recognised by its first layer.
// It reports whether it stored the image.
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

// storeChild stores content by digest unless it exists, once in a run. An image that exists
// counts as complete, because a registry accepts a manifest only after its blobs; the
// children of an index are checked. content is called only if it is needed, and told
// if r has it.
func (c *Client) storeChild(ctx context.Context, r repository, d v1.Descriptor, content func(there bool) (manifest.Content, error)) error {
	return onceARun(ctx, &c.session.exists.manifests, r.at(d.Digest), func() error { return c.storeIfAbsent(ctx, r, d, content) })
}

// storeIfAbsent sends a HEAD for d and stores its content if it is missing, or if the registry
// refuses to answer HEAD and GET. If an index exists, its children are checked too, since
// registries may delete children by themselves. With Verify the blobs of an image are
// checked.
func (c *Client) storeIfAbsent(ctx context.Context, r repository, d v1.Descriptor, content func(there bool) (manifest.Content, error)) error {
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
	own, err := content(there)
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

// complete stores everything that content refers to, then content under its digest. The
// order matters: a registry refuses a manifest with missing blobs.
func (c *Client) complete(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	if err := c.fill(ctx, r, content); err != nil {
		return err
	}
	return c.putManifest(ctx, r.by(d.Digest), d, content)
}

// unavailable returns the error of a child that the registry lacks and whose content
// cannot be read either. It is not [manifest.ErrNotFound]: that would tell the caller
// that the reference which the caller named does not exist.
func unavailable(err, absent error) error {
	at := transport.As(absent)
	if at == nil || transport.As(err) != nil || !errors.Is(err, manifest.ErrNotFound) {
		return err
	}
	return transport.Explained(at, errors.New(transport.Clean(err.Error())), "")
}

// A nestedIndex is an index that a Put stores. It bounds how deep indexes are nested. An
// index in it is read once, although it is opened twice: to find the depth before anything
// is sent, and to store it.
type nestedIndex struct {
	index
	depth int                                   // the number of indexes around it
	read  *once.Memo[v1.Hash, manifest.Content] // the nested indexes of a Put, errors too
}

// An index is embedded by this name, since v1.ImageIndex has a method ImageIndex.
type index = v1.ImageIndex

// errTooDeep is the error of an index in manifest.MaxDepth others.
var errTooDeep = mismatch("indexes are nested more than %d deep", manifest.MaxDepth)

// nestedIn returns idx as it is stored. An index that is none yet is the outermost.
func nestedIn(idx v1.ImageIndex) *nestedIndex {
	if x, ok := idx.(*nestedIndex); ok {
		return x
	}
	return &nestedIndex{index: idx, read: new(once.Memo[v1.Hash, manifest.Content])}
}

// child reads an entry of x.
func (x *nestedIndex) child(ctx context.Context, d v1.Descriptor) (manifest.Content, error) {
	read := func() (manifest.Content, error) {
		content, err := manifest.ChildOf(x.index, d)
		return x.inside(d, content, err)
	}
	if !d.MediaType.IsIndex() {
		return read()
	}
	return x.read.Do(ctx, d.Digest, read)
}

// inside returns content, which x lists as d, with the depth that it has if it is an
// index. The arguments are what a function returned that read it.
func (x *nestedIndex) inside(d v1.Descriptor, content manifest.Content, err error) (manifest.Content, error) {
	idx, ok := content.(v1.ImageIndex)
	switch {
	case err != nil || !ok:
		return content, err
	case x.depth+1 == manifest.MaxDepth:
		return nil, fmt.Errorf("%s: %w", d.Digest, errTooDeep)
	}
	return &nestedIndex{index: idx, depth: x.depth + 1, read: x.read}, nil
}

// checkDepth returns an error if indexes in x are nested too deep. It skips those that
// this run has stored in r and those that cannot be read, which r may have. An index
// under an unknown media type is found when it is stored.
func (c *Client) checkDepth(ctx context.Context, r repository, x *nestedIndex, seen map[v1.Hash]bool) error {
	im, err := x.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range im.Manifests {
		if _, stored := c.session.exists.manifests.Get(r.at(d.Digest)); stored || seen[d.Digest] || !d.MediaType.IsIndex() {
			continue
		}
		seen[d.Digest] = true
		content, err := x.child(ctx, d)
		if errors.Is(err, errTooDeep) {
			return err
		}
		if nested, ok := content.(*nestedIndex); ok && err == nil {
			if err := c.checkDepth(ctx, r, nested, seen); err != nil {
				return err
			}
		}
	}
	return nil
}
