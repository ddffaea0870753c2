package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// maxRepairs is how often the client stores the parts of a manifest again if the registry
// says that it does not have a part which it has just confirmed.
const maxRepairs = 4

// Put makes ref, a tag or a digest, name content: a [v1.Image], a [v1.ImageIndex], or a
// document that is neither and names no other content. Blobs and children that the
// repository has are not sent again. The tag is put last, and on an error it names what
// it named before; blobs and children that were stored stay.
//
// An index with more than [manifest.MaxDepth] nested ones is refused before anything is
// sent.
//
// If ref names content already, only the children of an index are checked (with Verify
// the blobs too), and missing ones are stored. Layers that may not be distributed are not
// stored. Content with a subject is listed among the subject's referrers before the tag
// moves; in a registry without the referrers API that is the tag sha256-….
func (c *Client) Put(ctx context.Context, ref string, content manifest.Content) error {
	r, err := c.parse(ref)
	if err != nil {
		return err
	}
	d, err := manifest.Describe(content)
	if err != nil {
		return err
	}
	c.writing(r.repository)
	if idx, ok := content.(v1.ImageIndex); ok {
		x := nestedIn(idx)
		if err := c.checkDepth(ctx, r.repository, x, map[v1.Hash]bool{}); err != nil {
			return err
		}
		content = x
	}
	if err := c.put(ctx, r, d, content); err != nil {
		return err
	}
	return c.refer(ctx, r.repository, d, content)
}

// put stores content at r, without the list of referrers for content without a tag. It
// records what the tag names now. If the PUT of the tag failed, what the tag names is
// unknown and is forgotten.
func (c *Client) put(ctx context.Context, r reference, d v1.Descriptor, content manifest.Content) error {
	if r.tag == "" {
		if r.digest != d.Digest {
			return mismatch("%s cannot be used for %s", r, d.Digest)
		}
		return c.byDigest(ctx, r.repository, d, content)
	}
	now, err := c.target(ctx, r)
	if err != nil {
		return err
	}
	if now.Digest == d.Digest {
		c.session.exists.found.add(r.String())
		c.session.exists.manifests.Set(r.at(d.Digest), struct{}{})
		return c.repair(ctx, r.repository, content)
	}
	if err := c.fill(ctx, r.repository, content); err != nil {
		return err
	}
	if err := c.announce(ctx, r.repository, d, content); err != nil {
		return err
	}
	if err := c.putManifest(ctx, r, d, content); err != nil {
		c.session.tags.forget(r)
		return err
	}
	c.session.exists.manifests.Set(r.at(d.Digest), struct{}{})
	c.session.tags.set(r, d)
	return nil
}

// announce stores content with a subject by its digest and lists it as a referrer before
// a tag names it: a reader that finds the tag then finds the entry too. All parts of the
// content are stored already. Content without a subject is left alone.
func (c *Client) announce(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	raw, err := content.RawManifest()
	if err != nil {
		return err
	}
	own := d
	if subject, err := subjectOf(raw, &own); err != nil || subject == (v1.Hash{}) {
		return err
	}
	err = onceARun(ctx, &c.session.exists.manifests, r.at(d.Digest), func() error { return c.putManifest(ctx, r.by(d.Digest), d, content) })
	if err != nil {
		return err
	}
	return c.refer(ctx, r, d, content)
}

// repair stores missing children of content that exists in r. With Verify it stores
// missing blobs of an image too.
func (c *Client) repair(ctx context.Context, r repository, content manifest.Content) error {
	switch own := content.(type) {
	case v1.ImageIndex:
		return c.children(ctx, r, own)
	case v1.Image:
		if c.Verify {
			return c.blobs(ctx, r, own)
		}
	}
	return nil
}

// fill stores everything that content refers to. A document that is neither an index nor
// an image refers to nothing. One that is, in a Go type that cannot say what it refers to,
// is refused: a tag would name something incomplete.
func (c *Client) fill(ctx context.Context, r repository, content manifest.Content) error {
	switch own := content.(type) {
	case v1.ImageIndex:
		return c.children(ctx, r, own)
	case v1.Image:
		return c.blobs(ctx, r, own)
	}
	raw, err := content.RawManifest()
	if err != nil {
		return err
	}
	if t, err := manifest.MediaType(raw); err == nil {
		return fmt.Errorf("%s: %T has a manifest of type %s, but is neither a v1.Image nor a v1.ImageIndex", r.key(), content, t)
	}
	return nil
}

// children stores the children of idx in parallel. A child that r has and that cannot be
// read from its source is read from r.
func (c *Client) children(ctx context.Context, r repository, idx v1.ImageIndex) error {
	x := nestedIn(idx)
	im, err := x.IndexManifest()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range im.Manifests {
		group.Go(func() error {
			return guard.Do(func() error {
				content := func(there bool) (manifest.Content, error) {
					own, err := x.child(ctx, d)
					if there && err != nil && ctx.Err() == nil {
						own, err = c.get(ctx, r.by(d.Digest), d)
						own, err = x.inside(d, own, err)
					}
					return own, err
				}
				if d.MediaType.IsImage() || d.MediaType.IsIndex() {
					return c.storeChild(ctx, r, d, content)
				}
				return c.storeOther(ctx, r, d, content)
			})
		})
	}
	return group.Wait()
}

// storeOther stores a child with an unknown media type as what its content shows: an image or
// index, another manifest, or a blob.
func (c *Client) storeOther(ctx context.Context, r repository, d v1.Descriptor, content func(there bool) (manifest.Content, error)) error {
	own, err := content(false)
	if err != nil {
		return err
	}
	switch own.(type) {
	case v1.Image, v1.ImageIndex:
		if d.MediaType, err = own.MediaType(); err != nil {
			return err
		}
		return c.byDigest(ctx, r, d, own)
	}
	raw, err := own.RawManifest()
	if err != nil {
		return err
	}
	if isManifest(raw) {
		return onceARun(ctx, &c.session.exists.manifests, r.at(d.Digest), func() error { return c.putManifest(ctx, r.by(d.Digest), d, own) })
	}
	return c.storeAll(ctx, r, []blob{{Descriptor: d, open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }}})
}

// isManifest reports whether a registry stores bytes of an unknown media type as a
// manifest, not as a blob: they are a JSON object with a schemaVersion.
func isManifest(raw []byte) bool {
	var shape struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	return json.Unmarshal(raw, &shape) == nil && shape.SchemaVersion != 0
}

// blobs stores the config and the layers of img in parallel.
func (c *Client) blobs(ctx context.Context, r repository, img v1.Image) error {
	all, err := blobsOf(img)
	if err != nil {
		return err
	}
	return c.storeAll(ctx, r, all)
}

// putManifest stores a manifest at r; its parts are stored already. It repeats the PUT in
// two cases. If the registry says that a part is missing (it may be slow to see it), the
// parts are stored again, at most maxRepairs times. Other errors are repeated within the
// retry budget. Before each of those it asks what r names: the answer of a PUT that
// succeeded may have been lost, and a registry with immutable tags refuses the
// repetition.
func (c *Client) putManifest(ctx context.Context, r reference, d v1.Descriptor, content manifest.Content) error {
	raw, err := content.RawManifest()
	if err != nil {
		return err
	}
	tries := c.transport.Retries(r.host)
	for heals := 0; ; {
		err := c.putOnce(ctx, r, d, raw)
		if err == nil {
			return nil
		}
		if unknownParts(err) && heals < maxRepairs {
			if heals++; c.refill(ctx, r.repository, content, heals) == nil {
				continue
			}
		}
		end := tries.Again(ctx, err)
		if ctx.Err() == nil && c.arrived(ctx, r, d, err) {
			return nil
		}
		if end != nil {
			return end
		}
	}
}

// putOnce sends one PUT of a manifest. An answer with another digest is an error. An
// answer other than 201 without a digest may come from something else than a registry.
func (c *Client) putOnce(ctx context.Context, r reference, d v1.Descriptor, raw []byte) error {
	req := r.request(http.MethodPut, "manifests/"+r.identifier())
	req.Reference, req.Policy, req.Scopes = r.identifier(), transport.NoRetry, c.scopes(r.repository)
	req.Want = []int{http.StatusCreated, http.StatusOK, http.StatusAccepted}
	req.Header.Set("Content-Type", string(d.MediaType))
	req.Body = transport.BytesBody(raw)
	resp, err := c.transport.Ask(ctx, req)
	if err != nil {
		return c.notPut(r, d, err)
	}
	switch named, wrong := stated(resp.Header, d.Digest); {
	case wrong:
		return mismatch("%s: the registry stored %s instead of %s", r, transport.Clean(resp.Header.Get(contentDigest)), d.Digest)
	case !named && resp.StatusCode != http.StatusCreated:
		return req.NoEffect(resp) // putManifest asks whether it was stored all the same
	}
	return nil
}

// notPut adds to the refusal of a manifest what its status and codes mean, and a hint. An
// error that is not the registry's own refusal of the manifest is returned as it is.
func (c *Client) notPut(r reference, d v1.Descriptor, err error) error {
	e := transport.As(err)
	if e == nil || e.Op != http.MethodPut || transport.Redirected(err) || transport.Throttled(err) || unknownParts(err) {
		return err
	}
	now, known := c.session.tags.get(r)
	// names: the tag names something, or this run has not learnt what it names.
	names := r.tag != "" && (!known || now.Digest != (v1.Hash{}))
	switch {
	case r.tag != "" && immutable(e, names):
		return transport.Overruled(e, because("the tag is immutable and already points to another image", e.Err),
			"push to another tag, or allow the registry to overwrite tags of "+r.key())
	case transport.HasCode(e, "MANIFEST_INVALID"):
		return transport.Explained(e, because(fmt.Sprintf("the registry does not accept this manifest of type %s", d.MediaType), e.Err), "")
	case e.Status == http.StatusForbidden && names && known:
		return transport.Explained(e, e.Err, e.Hint()+"; or, if the tag cannot be overwritten, push to another tag")
	}
	return err
}

// because puts the meaning of an error before the registry's own message, if there is
// one.
func because(what string, words error) error {
	if words == nil {
		return errors.New(what)
	}
	return fmt.Errorf("%s: %w", what, words)
}

// immutable reports whether e, from the PUT of a tag, means that the tag is immutable. names
// says that the tag names something. The specification has no code for this: Quay has
// defined one, Amazon ECR answers 400 TAG_INVALID or ImageTagAlreadyExistsException,
// Harbor 412 PRECONDITION, others 409.
func immutable(e *Error, names bool) bool {
	if e.Status < 400 || e.Status >= 500 || e.Status == http.StatusUnauthorized || e.Status == http.StatusNotFound {
		return false
	}
	if slices.ContainsFunc(e.Codes, func(code string) bool { return strings.Contains(strings.ToUpper(code), "IMMUTABLE") }) ||
		transport.HasCode(e, "ImageTagAlreadyExistsException", "TAG_ALREADY_EXISTS") {
		return true
	}
	switch e.Status {
	case http.StatusConflict, http.StatusPreconditionFailed:
		return names
	case http.StatusBadRequest:
		return names && transport.HasCode(e, "TAG_INVALID")
	}
	return false
}

// arrived reports whether r names d after a PUT that ended in err. It sends one HEAD
// without retries; any doubt is false, and the PUT is then repeated or fails.
func (c *Client) arrived(ctx context.Context, r reference, d v1.Descriptor, err error) bool {
	if transport.StatusOf(err) == http.StatusUnauthorized {
		return false
	}
	req := r.manifest(http.MethodHead)
	req.Scopes, req.Policy = c.scopes(r.repository), transport.NoRetry
	resp, err := c.transport.Ask(ctx, req)
	if err != nil {
		return false
	}
	if said := resp.Header.Get(contentDigest); said == d.Digest.String() {
		return true
	}
	if named, wrong := stated(resp.Header, d.Digest); !named || wrong {
		return false
	}
	now, err := c.describe(ctx, r) // the registry's digest has another algorithm
	return err == nil && now.Digest == d.Digest
}

// refill stores all parts of content once more after the registry said that one is
// missing. It first waits, longer each time, since a registry with several nodes may need
// time, and then forgets that the parts exist, so that each is asked for again.
func (c *Client) refill(ctx context.Context, r repository, content manifest.Content, repairs int) error {
	if err := c.transport.Backoff(ctx, repairs); err != nil {
		return err
	}
	switch own := content.(type) {
	case v1.ImageIndex:
		im, err := own.IndexManifest()
		if err != nil {
			return err
		}
		for _, d := range im.Manifests {
			c.session.exists.manifests.Forget(r.at(d.Digest))
		}
	case v1.Image:
		all, err := blobsOf(own)
		if err != nil {
			return err
		}
		for _, b := range all {
			c.session.exists.blobs.Forget(r.at(b.Digest))
		}
	}
	return c.fill(ctx, r, content)
}

// unknownParts reports whether a registry refused a manifest because a part is missing.
func unknownParts(err error) bool {
	return transport.HasCode(err, "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN")
}

// unanswered reports whether err is a registry's refusal to say whether content exists.
func unanswered(err error) bool { return errors.Is(err, manifest.ErrUnanswered) }

// missing reports whether err says that a manifest does not exist.
func missing(err error) bool { return errors.Is(err, manifest.ErrNotFound) }

// blobsOf returns the config and the layers of img, each digest once, without layers that
// are stored elsewhere.
func blobsOf(img v1.Image) ([]blob, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	all := []blob{configOf(img, m.Config)}
	for _, d := range m.Layers {
		if manifest.External(d) || slices.ContainsFunc(all, func(b blob) bool { return b.Digest == d.Digest }) {
			continue
		}
		all = append(all, layerOf(func() (v1.Layer, error) { return img.LayerByDigest(d.Digest) }, d))
	}
	return all, nil
}
