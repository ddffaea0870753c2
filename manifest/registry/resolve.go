package registry

import (
	"context"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// Resolve returns the descriptor of what ref names with one HEAD, or a GET where
// the registry does not answer a HEAD with media type, digest and size. A tag is
// asked for once a run: what it named then, or that it named nothing, is
// remembered until [Client.Put] moves it, but where a mirror may have answered.
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

// authoritative reports whether what is read in r comes from the registry itself: a
// mirror speaks for itself alone.
func (c *Client) authoritative(r repository) bool {
	return len(r.host.Mirrors) == 0 || c.session.writes.has(r.key())
}

// observed remembers that the image d is in r, where it was just read or asked for,
// so that a Put to r need not ask once more. Of an index only a look at its
// children would tell that it is whole.
func (c *Client) observed(r repository, d v1.Descriptor) {
	if d.MediaType.IsImage() && !c.Verify && c.authoritative(r) {
		c.session.exists.manifests.Set(r.at(d.Digest), struct{}{})
	}
}

// current returns what the tag names, the zero descriptor for nothing, where
// [Client.authoritative] holds. It is asked once a run.
func (c *Client) current(ctx context.Context, r reference) (v1.Descriptor, error) {
	if d, known := c.session.tags.get(r); known {
		return d, nil
	}
	return share(ctx, c.session.tags.resolving.Do, r.String(), func() (v1.Descriptor, error) {
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

// target is current for a tag that is to be written. A registry that refuses to say
// what the tag names, to HEAD and to GET, is asked once a run: the zero descriptor
// stands for that, too, and the answer to the PUT counts.
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

// insist asks by GET what r names, where head ended in refused and has not done so.
func (c *Client) insist(ctx context.Context, r reference, refused error) (v1.Descriptor, error) {
	if asError(refused).Op != http.MethodHead {
		return v1.Descriptor{}, refused
	}
	return c.describe(ctx, r)
}

// nothing is the error about a tag that is known to name nothing.
func (r reference) nothing() *Error {
	e := r.manifest(http.MethodHead).fault(nil)
	e.Status, e.missing, e.final = http.StatusNotFound, true, true
	return e
}

// resolved returns what the tag named when it was resolved in this run, read by
// digest. It returns nil where it was not, or what it named is gone.
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
