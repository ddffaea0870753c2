package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/verify"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// A blob is content to store, a layer or config. It can be opened any number of times,
// since a cut upload may have to start again.
type blob struct {
	v1.Descriptor
	open func() (io.ReadCloser, error) // from the first byte
	// part opens the bytes from one offset up to another. It is nil if the blob can be
	// opened only from its first byte.
	part func(from, to int64) (io.ReadCloser, error)
}

// configOf returns the config of img as a blob.
func configOf(img v1.Image, d v1.Descriptor) blob {
	return blob{Descriptor: d, open: func() (io.ReadCloser, error) {
		raw, err := img.RawConfigFile()
		return io.NopCloser(bytes.NewReader(raw)), err
	}}
}

// layerOf returns a layer as a blob. find is called at each opening, so that a lazy image
// reads nothing before. A layer that supports ranges is opened at the offset; any other
// one is read from its start.
func layerOf(find func() (v1.Layer, error), d v1.Descriptor) blob {
	b := blob{Descriptor: d, open: func() (io.ReadCloser, error) {
		l, err := find()
		if err != nil {
			return nil, err
		}
		return l.Compressed()
	}}
	b.part = func(from, to int64) (io.ReadCloser, error) {
		l, err := find()
		if err != nil {
			return nil, err
		}
		if own, ok := l.(interface {
			Part(from, to int64) (io.ReadCloser, error)
		}); ok {
			if r, err := own.Part(from, to); !errors.Is(err, errors.ErrUnsupported) {
				return r, err
			}
		}
		return blob{Descriptor: d, open: l.Compressed}.section(from, to-from)
	}
	return b
}

// Carry stores layers in the repository of ref before their image exists, while the
// program compiles. A later [Client.Put] finds them; a Put at the same time waits for
// those that it needs. Layers that may not be distributed are left out. Carry writes no
// manifest, so a registry may delete the layers if no Put follows.
func (c *Client) Carry(ctx context.Context, ref string, layers ...v1.Layer) error {
	r, err := c.parse(ref)
	if err != nil {
		return err
	}
	c.writing(r.repository)
	var all []blob
	for _, l := range layers {
		d, err := manifest.Describe(l)
		if err != nil {
			return err
		}
		if d.MediaType.IsDistributable() {
			all = append(all, layerOf(func() (v1.Layer, error) { return l, nil }, d))
		}
	}
	return c.storeAll(ctx, r.repository, all)
}

// storeAll stores blobs in parallel. The first error cancels the others. The semaphore of
// the host bounds the requests in flight.
func (c *Client) storeAll(ctx context.Context, r repository, all []blob) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range all {
		group.Go(func() error { return guard.Do(func() error { return c.storeBlob(ctx, r, b) }) })
	}
	return group.Wait()
}

// storeBlob makes b exist in r, once in a run. It is mounted from another repository of the
// host, found, or uploaded.
func (c *Client) storeBlob(ctx context.Context, r repository, b blob) error {
	return onceARun(ctx, &c.session.exists.blobs, r.at(b.Digest), func() error {
		if err := c.storeNow(ctx, r, b); err != nil {
			return err
		}
		c.session.exists.addOrigin(r, b.Digest)
		return nil
	})
}

// storeNow stores b in r. If another repository of the host is being sent the blob, it
// waits for that and then mounts the blob: the same bytes are uploaded once for each
// host. While it waits it holds no permit.
//
// If the upload to the other repository fails because the registry refuses it (4xx), the
// reason may be that repository, and the loop makes one waiter the next uploader. With
// any other outcome the caller stores the blob itself.
func (c *Client) storeNow(ctx context.Context, r repository, b blob) error {
	for {
		if _, ok := c.session.mountSource(r, b.Digest); ok {
			return c.storeAlone(ctx, r, b)
		}
		led := false
		_, err := transport.Share(ctx, c.session.exists.uploads.Do, origin{r.host.Name, b.Digest}, func() (struct{}, error) {
			led = true
			err := c.storeAlone(ctx, r, b)
			if err == nil {
				c.session.exists.addOrigin(r, b.Digest)
			}
			return struct{}{}, err
		})
		switch s := transport.StatusOf(err); {
		case led || ctx.Err() != nil:
			return err
		case s < http.StatusBadRequest || s >= http.StatusInternalServerError:
			return c.storeAlone(ctx, r, b)
		}
		// The other repository refuses the blob. The next waiter uploads it.
	}
}

// storeAlone mounts, finds or uploads b, in this order, without regard to other uploads.
// A mount that is declined may have opened an upload session; that session is used for
// the upload, or closed if the blob turns out to exist.
func (c *Client) storeAlone(ctx context.Context, r repository, b blob) error {
	var opened *uploadSession
	if from, ok := c.session.mountSource(r, b.Digest); ok {
		var mounted bool
		if mounted, opened = c.mount(ctx, r, from, b); mounted {
			c.transfer(ctx, "mount", r, b.Digest, b.Size).done()
			return nil
		}
	}
	there, err := false, error(nil)
	// A blob in missing has just been answered with 404, so it is not asked for again.
	if !c.session.exists.missing.remove(r.at(b.Digest)) {
		there, _, err = c.has(ctx, r, b)
	}
	if there || err != nil {
		c.cancel(ctx, r, opened)
		if err == nil {
			c.transfer(ctx, "exists", r, b.Digest, b.Size).done()
		}
		return err
	}
	if opened == nil {
		opened = c.session.openUploads.take(r)
	}
	return c.upload(ctx, r, b, opened)
}

// has sends a HEAD for b to r. answered is false if the registry refuses to answer: the
// blob may be there, and the caller sends it. A Content-Length that differs from the
// descriptor is an error, since an upload would not change it.
func (c *Client) has(ctx context.Context, r repository, b blob) (there, answered bool, err error) {
	req := r.blob(http.MethodHead, b.Digest)
	req.Scopes = c.scopes(r)
	req.Want = append(req.Want, http.StatusNotFound)
	resp, err := c.transport.Ask(ctx, req)
	if unanswered(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, true, nil
	}
	if n := resp.ContentLength; n > 0 && n != b.Size {
		return false, true, mismatch("%s: %d bytes in the registry, %d in its descriptor", r.by(b.Digest), n, b.Size)
	}
	return true, true, nil
}

// mount asks the registry to mount b from another repository of the same host
// (distribution-spec, "Mounting a blob from another repository"). Any refusal leads to an
// upload. A registry that answers 202 has opened an upload session, which is returned.
// The scopes need pull on the source as well.
func (c *Client) mount(ctx context.Context, r, from repository, b blob) (mounted bool, opened *uploadSession) {
	req := r.request(http.MethodPost, "blobs/uploads/")
	req.Reference, req.Policy = b.Digest.String(), transport.NoRetry|transport.OpensSession
	req.Query = url.Values{"mount": {b.Digest.String()}, "from": {from.name}}
	req.Scopes = append(c.scopes(r), "repository:"+from.name+":pull")
	req.Want = []int{http.StatusCreated, http.StatusAccepted}
	resp, err := c.transport.Ask(ctx, req)
	if err == nil {
		if resp.StatusCode == http.StatusCreated {
			return true, nil
		}
		opened, _ = newUploadSession(resp) // without one the upload opens its own
	}
	switch s := transport.StatusOf(err); {
	case ctx.Err() != nil:
	case s >= http.StatusBadRequest && s < http.StatusInternalServerError: // the reason may be r
		c.session.hosts.noMount.add(from.key() + " " + r.name)
	default:
		c.session.hosts.noMount.add(from.key())
	}
	return false, opened
}

// reader opens b for sending. If the content does not have the digest, the reader returns
// an error in place of the last bytes, so that a registry never gets a complete wrong
// blob.
func (b blob) reader() (io.ReadCloser, error) {
	inner, err := b.open()
	if err != nil {
		return nil, err
	}
	v, err := verify.NewReader(inner, b.Digest, b.Size)
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	return stream.WithClose(stream.MapError(v, func(err error) error {
		if errors.Is(err, verify.ErrMismatch) {
			err = mismatch("blob %w", err)
		}
		return err
	}), inner.Close), nil
}
