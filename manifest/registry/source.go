package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// maxManifest bounds manifests, configs and pages of listings, in bytes. The distribution
// specification asks registries to accept manifests of at least this size.
const maxManifest = 4 << 20

// tagRecord is the kind of cache records that hold what a tag named last.
const tagRecord = "registry-tag"

// Get returns what ref names, an image or an index, with one GET. A digest in the cache
// needs no request, and a tag whose last digest is in the cache needs one HEAD. A tag
// that this run has resolved is read by the digest that it named then, and by the tag
// only if that content is gone.
//
// The content is lazy: its config, layers and children are read when they are needed,
// under the ctx of this call, which must not end before. Each is compared with its
// digest. A reference that names nothing is [manifest.ErrNotFound]; for a tag this is
// remembered as by [Client.Resolve].
func (c *Client) Get(ctx context.Context, ref string) (manifest.Content, error) {
	r, err := c.parse(ref)
	if err != nil {
		return nil, err
	}
	if r.tag != "" {
		if content, err := c.resolved(ctx, r); content != nil || err != nil {
			return content, err
		}
		if content := c.remembered(ctx, r); content != nil {
			return content, nil
		}
	}
	content, err := c.get(ctx, r, v1.Descriptor{Digest: r.digest})
	if r.tag != "" && missing(err) && c.authoritative(r.repository) {
		c.session.tags.set(r, v1.Descriptor{}) // a Put need not ask again
	}
	return content, err
}

// remembered returns the cached content of a tag if a HEAD shows that the tag still names
// it. It returns nil if not, or after any failure; the caller then reads the tag.
func (c *Client) remembered(ctx context.Context, r reference) manifest.Content {
	var last v1.Descriptor
	if !c.cache.Load(tagRecord, r.String(), &last) {
		return nil
	}
	raw, err := c.cache.Bytes(last.Digest, maxManifest)
	if err != nil {
		return nil
	}
	now, err := c.head(ctx, r)
	if err != nil || now.Digest != last.Digest {
		return nil
	}
	content, err := c.content(ctx, r.repository, raw, now)
	if err != nil {
		return nil
	}
	c.observed(r.repository, now)
	return content
}

// get returns the content at r from the cache or the registry. It must agree with want; a
// zero digest, size or media type is not compared.
func (c *Client) get(ctx context.Context, r reference, want v1.Descriptor) (manifest.Content, error) {
	if want.Size > maxManifest {
		return nil, mismatch("%s: a manifest of %d bytes", r, want.Size)
	}
	if want.Digest != (v1.Hash{}) {
		if raw, err := c.cache.Bytes(want.Digest, maxManifest); err == nil {
			return c.content(ctx, r.repository, raw, want)
		}
	}
	return c.getNow(ctx, r, want)
}

// getNow is get without the cache.
func (c *Client) getNow(ctx context.Context, r reference, want v1.Descriptor) (content manifest.Content, err error) {
	err = c.readAll(ctx, r.repository, r.manifest(http.MethodGet), func(raw []byte, header http.Header) error {
		content, err = c.checked(ctx, r, raw, header, want)
		return err
	})
	return content, err
}

// checked returns the content of a manifest that was read at r, after comparing it with
// want and with the answer's header. It then puts it into the cache.
func (c *Client) checked(ctx context.Context, r reference, raw []byte, header http.Header, want v1.Descriptor) (_ manifest.Content, err error) {
	if want.Digest == (v1.Hash{}) {
		if want.Digest, err = claimed(header, raw); err != nil {
			return nil, fmt.Errorf("%s: %w", r, err)
		}
	}
	found, err := manifest.MediaType(raw, plainType(header.Get("Content-Type")), want.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	want.MediaType = found
	content, err := c.content(ctx, r.repository, raw, want)
	if err != nil {
		return nil, err
	}
	c.cacheManifest(r, raw, want)
	c.observed(r.repository, want)
	return content, nil
}

// claimed returns the sha256 of raw, by which content is compared and written. If the
// answer's header has a digest of any supported algorithm that is not raw's, that is an
// error.
func claimed(header http.Header, raw []byte) (v1.Hash, error) {
	if said, err := v1.NewHash(header.Get(contentDigest)); err == nil {
		if is, err := digestOf(said.Algorithm, raw); err != nil || is != said {
			return v1.Hash{}, cmp.Or(err, mismatch("the registry reports digest %s for %s", said, is))
		}
	}
	return digestOf("sha256", raw)
}

// cacheManifest puts a verified manifest into the cache, and what its tag names. A
// failure is logged only.
func (c *Client) cacheManifest(r reference, raw []byte, d v1.Descriptor) {
	if c.cache == nil {
		return
	}
	err := c.cachePut(d.Digest, raw)
	if err == nil && r.tag != "" {
		d.Size = int64(len(raw))
		err = c.cache.Store(tagRecord, r.String(), d)
	}
	if err != nil {
		c.transport.Log.Debug("not cached", "reference", r.String(), "err", err)
	}
}

// readAll sends a request that only reads, and again if the answer is cut off. It calls
// use with the whole body, at most maxManifest bytes; use verifies it.
func (c *Client) readAll(ctx context.Context, r repository, req *transport.Request, use func(raw []byte, header http.Header) error) error {
	tries := c.transport.Retries(r.host)
	for {
		err := c.read(ctx, r, req, func(_ source, resp *http.Response) error {
			defer resp.Body.Close() //nolint:errcheck // only read
			raw, err := readCapped(resp.Body, resp.ContentLength, maxManifest)
			if err != nil {
				return req.Fault(err)
			}
			return use(raw, resp.Header)
		})
		if err == nil {
			return nil
		}
		if err := tries.Again(ctx, err); err != nil {
			return err
		}
	}
}

// uninterpreted reads the bytes that d describes, first as a manifest, then as a blob: a
// descriptor with an unknown media type may be either. The bytes are verified.
func (c *Client) uninterpreted(ctx context.Context, r repository, d v1.Descriptor) (raw []byte, err error) {
	verify := func(b []byte, _ http.Header) error {
		raw = b
		is, err := digestOf(d.Digest.Algorithm, b)
		if err == nil && (is != d.Digest || int64(len(b)) != d.Size) {
			err = mismatch("%s: got %d bytes of digest %s for %d", r.by(d.Digest), len(b), is, d.Size)
		}
		return err
	}
	err = c.readAll(ctx, r, r.by(d.Digest).manifest(http.MethodGet), verify)
	if missing(err) {
		err = c.readAll(ctx, r, r.blob(http.MethodGet, d.Digest), verify)
	}
	return raw, err
}

// head asks what r names with a HEAD. It sends a GET if the answer lacks media type,
// digest or size, if a tag's digest is not a sha256, or if the registry refuses HEAD. A
// 403 is an error without a GET: it is the answer to an account that may not read.
func (c *Client) head(ctx context.Context, r reference) (d v1.Descriptor, err error) {
	complete := false
	err = c.read(ctx, r.repository, r.manifest(http.MethodHead), func(_ source, resp *http.Response) error {
		d, complete, err = r.described(resp)
		return errors.Join(err, resp.Body.Close())
	})
	if unanswered(err) && transport.StatusOf(err) != http.StatusForbidden || err == nil && !complete {
		return c.describe(ctx, r)
	}
	return d, err
}

// described returns what the answer to a HEAD says that r names. complete is false if it
// does not say enough. A digest other than the one that was asked for is an error.
func (r reference) described(resp *http.Response) (d v1.Descriptor, complete bool, err error) {
	digest, err := v1.NewHash(resp.Header.Get(contentDigest))
	d = v1.Descriptor{
		MediaType: plainType(resp.Header.Get("Content-Type")),
		Digest:    digest, Size: resp.ContentLength,
	}
	if err != nil || d.Size <= 0 || !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
		return v1.Descriptor{}, false, nil
	}
	if r.tag != "" { // another algorithm cannot be compared with a sha256
		return d, d.Digest.Algorithm == "sha256", nil
	}
	if d.Digest.Algorithm == r.digest.Algorithm && d.Digest != r.digest {
		return v1.Descriptor{}, false, mismatch("%s: the registry reports digest %s", r, d.Digest)
	}
	d.Digest = r.digest
	return d, true, nil
}

// describe reads the manifest at r to find out what r names. It does not use the cache: a
// manifest in the cache need not exist in this repository.
func (c *Client) describe(ctx context.Context, r reference) (v1.Descriptor, error) {
	content, err := c.getNow(ctx, r, v1.Descriptor{Digest: r.digest})
	if err != nil {
		return v1.Descriptor{}, err
	}
	return manifest.Describe(content)
}

// manifest returns a request about the manifest at r.
func (r reference) manifest(method string) *transport.Request {
	req := r.request(method, "manifests/"+r.identifier())
	req.Reference, req.Policy, req.NotFound = r.identifier(), transport.CountsAsPull, manifest.ErrNotFound
	req.Want = []int{http.StatusOK}
	req.Header.Set("Accept", accepted)
	return req
}

// request returns a request below the path of the repository.
func (r repository) request(method, path string) *transport.Request {
	return &transport.Request{
		Method: method, Registry: r.host, Repository: r.name, Path: r.name + "/" + path, Header: http.Header{},
		Unanswered: manifest.ErrUnanswered,
	}
}

// errTooLarge is the error of a body beyond the limit.
var errTooLarge = mismatch("larger than the limit of %d bytes for a manifest or config", maxManifest)

// readCapped reads a body of at most limit bytes. size is its announced length, or -1.
// The buffer grows with what arrives, but begins at size, which is at most limit.
func readCapped(r io.Reader, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, errTooLarge
	}
	b := slices.Grow([]byte(nil), int(max(size, 512))+1)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, errTooLarge
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}
