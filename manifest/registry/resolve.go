package registry

import (
	"context"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// Resolve returns the descriptor of what ref names, with one HEAD; it sends a GET too if
// the answer lacks media type, digest or size. A tag is asked for once in a run. What it
// named, or that it named nothing, is remembered until [Client.Put] moves it, so that a
// run sees one image. It is not remembered if a registry mirror may have answered. A tag
// or digest that does not exist is [manifest.ErrNotFound].
func (c *Client) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	r, err := c.parse(ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	var d v1.Descriptor
	if r.tag != "" && c.authoritative(r.repository) {
		d, err = c.current(ctx, r)
		if err == nil && d.Digest == (v1.Hash{}) {
			return d, r.nothing()
		}
	} else {
		d, err = c.head(ctx, r)
	}
	if err == nil {
		c.observed(r.repository, d)
	}
	return d, err
}

// authoritative reports whether reads of r are answered by the registry itself. An answer
// from a registry mirror says nothing about the registry.
func (c *Client) authoritative(r repository) bool {
	return len(r.host.Mirrors) == 0 || c.session.writes.has(r.key())
}

// observed records that the image d exists in r, so that a Put to r does not ask again.
// It is recorded only for images: an index may lack children. With Verify nothing is
// recorded, since its blobs are to be checked.
func (c *Client) observed(r repository, d v1.Descriptor) {
	if d.MediaType.IsImage() && !c.Verify && c.authoritative(r) {
		c.session.exists.manifests.Set(r.at(d.Digest), struct{}{})
	}
}

// current returns what a tag names, the zero descriptor for nothing. It asks once in a
// run, also for several callers at once. The caller has checked [Client.authoritative];
// otherwise a mirror's answer would be remembered.
func (c *Client) current(ctx context.Context, r reference) (v1.Descriptor, error) {
	if d, known := c.session.tags.get(r); known {
		return d, nil
	}
	return transport.Share(ctx, c.session.tags.resolving.Do, r.String(), func() (v1.Descriptor, error) {
		if d, known := c.session.tags.get(r); known {
			return d, nil
		}
		d, err := c.head(ctx, r)
		if missing(err) {
			d, err = v1.Descriptor{}, nil
		}
		if err == nil {
			c.session.tags.set(r, d)
		}
		return d, err
	})
}

// target is [Client.current] for a tag that is to be written. If the registry refuses to
// say what the tag names, to HEAD and to GET, the descriptor is zero and the answer to
// the PUT decides. Such a tag is asked for once in a run. It also records repositories in
// which a tag names nothing, see pushFresh.
func (c *Client) target(ctx context.Context, r reference) (v1.Descriptor, error) {
	if _, known := c.session.tags.get(r); !known && c.session.tags.unanswered.has(r.String()) {
		return v1.Descriptor{}, nil
	}
	d, err := c.current(ctx, r)
	if unanswered(err) {
		d, err = c.insist(ctx, r, err)
		switch {
		case unanswered(err):
			c.session.tags.unanswered.add(r.String())
			return v1.Descriptor{}, nil
		case missing(err):
			d, err = v1.Descriptor{}, nil
		}
		if err == nil {
			c.session.tags.set(r, d)
		}
	}
	if err == nil && d.Digest == (v1.Hash{}) {
		c.session.tags.empty.add(r.key())
	}
	return d, err
}

// insist asks with GET for what r names, if refused is the error of a HEAD. An error of a
// GET is returned as it is.
func (c *Client) insist(ctx context.Context, r reference, refused error) (v1.Descriptor, error) {
	if transport.As(refused).Op != http.MethodHead {
		return v1.Descriptor{}, refused
	}
	return c.describe(ctx, r)
}

// nothing is the error of a tag that is known to name nothing, as a HEAD would have
// returned it.
func (r reference) nothing() *Error {
	return r.manifest(http.MethodHead).Answer(http.StatusNotFound, nil)
}

// resolved returns what the tag named when this run resolved it, read by digest. It
// returns nil if the tag was not resolved, or if the content has been deleted since; the
// caller then reads the tag.
func (c *Client) resolved(ctx context.Context, r reference) (manifest.Content, error) {
	d, known := c.session.tags.get(r)
	if !known || d.Digest == (v1.Hash{}) {
		return nil, nil
	}
	content, err := c.get(ctx, r.by(d.Digest), d)
	if missing(err) {
		c.session.tags.forget(r)
		return nil, nil
	}
	return content, err
}
