package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// content returns the image or index of a manifest after comparing its digest and size
// with d. It records that the repository has the blobs of an image, so that they can be
// mounted from there.
func (c *Client) content(ctx context.Context, r repository, raw []byte, d v1.Descriptor) (manifest.Content, error) {
	is, err := digestOf(d.Digest.Algorithm, raw)
	if err != nil {
		return nil, err
	}
	if is != d.Digest {
		return nil, mismatch("%s: got digest %s", r.by(d.Digest), is)
	}
	if d.Size != 0 && d.Size != int64(len(raw)) {
		return nil, mismatch("%s: got %d bytes of %d", r.by(d.Digest), len(raw), d.Size)
	}
	content, err := manifest.Open(v1.Descriptor{MediaType: d.MediaType, Digest: is}, raw, &fetcher{ctx: ctx, client: c, repo: r})
	if img, ok := content.(v1.Image); ok {
		if err := c.session.exists.addImage(r, img); err != nil {
			return nil, err
		}
	}
	return content, err
}

// A fetcher reads the content that a manifest refers to, in the manifest's repository. It
// is the lazy half of [Client.Get].
type fetcher struct {
	ctx    context.Context // the context of Get, under which all content is read
	client *Client
	repo   repository
}

var _ manifest.Fetcher = (*fetcher)(nil)

// Name returns the reference of a digest, for errors.
func (f *fetcher) Name(h v1.Hash) string { return f.repo.by(h).String() }

// Child reads an image or index by digest. A child with another media type is read as
// bytes, which may be a manifest or a blob.
func (f *fetcher) Child(d v1.Descriptor) (manifest.Content, error) {
	if d.MediaType.IsImage() || d.MediaType.IsIndex() || d.MediaType == "" && d.Platform != nil {
		return f.client.get(f.ctx, f.repo.by(d.Digest), d)
	}
	raw, err := f.client.uninterpreted(f.ctx, f.repo, d)
	if err != nil {
		return nil, err
	}
	return manifest.Uninterpreted(d, raw, func(d v1.Descriptor) (manifest.Content, error) {
		return f.client.content(f.ctx, f.repo, raw, d)
	})
}

// Blob opens a layer. A download that is cut continues where it was cut. The digest is
// compared at the last byte.
func (f *fetcher) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return f.client.download(f.ctx, f.repo, d)
}

// Part opens a range of a layer. A range cannot be compared with the digest.
func (f *fetcher) Part(d v1.Descriptor, from, to int64) (io.ReadCloser, error) {
	return f.client.downloadPart(f.ctx, f.repo, d, from, to)
}

// Config reads a config of at most maxManifest bytes and compares it with its digest.
func (f *fetcher) Config(d v1.Descriptor) (config []byte, err error) {
	if d.Size > maxManifest || d.Size < 0 {
		return nil, mismatch("%s: a config of %d bytes", f.Name(d.Digest), d.Size)
	}
	if raw, err := f.client.cache.Bytes(d.Digest, maxManifest); err == nil && int64(len(raw)) == d.Size {
		return raw, nil
	}
	err = f.client.readAll(f.ctx, f.repo, f.repo.blob(http.MethodGet, d.Digest), func(raw []byte, _ http.Header) error {
		config = raw
		return f.checkConfig(d, raw)
	})
	return config, err
}

// checkConfig compares raw with its descriptor and puts it into the cache.
func (f *fetcher) checkConfig(d v1.Descriptor, raw []byte) error {
	is, err := digestOf(d.Digest.Algorithm, raw)
	switch {
	case err != nil:
		return err
	case is != d.Digest:
		return mismatch("%s: got a config of digest %s", f.repo.by(d.Digest), is)
	case int64(len(raw)) != d.Size:
		return mismatch("%s: got a config of %d bytes for %d", f.repo.by(d.Digest), len(raw), d.Size)
	}
	if err := f.client.cachePut(d.Digest, raw); err != nil {
		f.client.transport.Log.Debug("not cached", "digest", d.Digest.String(), "err", err)
	}
	return nil
}

// cachePut stores raw under h, unless the cache has it. The caller has compared the
// digest.
func (c *Client) cachePut(h v1.Hash, raw []byte) error {
	if c.cache == nil {
		return nil
	}
	if _, err := c.cache.Size(h); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.cache.Put(h, bytes.NewReader(raw))
}

// blob returns a request about a blob of the repository.
func (r repository) blob(method string, h v1.Hash) *transport.Request {
	req := r.request(method, "blobs/"+h.String())
	req.Reference, req.Want = h.String(), []int{http.StatusOK}
	req.Policy = transport.Download
	return req
}
