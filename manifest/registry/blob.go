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
	"github.com/mabuild/mabuild/internal/verify"
	"github.com/mabuild/mabuild/manifest"
)

// A blob is bytes to store, which can be read as often as it takes.
type blob struct {
	v1.Descriptor
	open func() (io.ReadCloser, error)
	// part opens the bytes from one offset up to another, nil where only all can be opened.
	part func(from, to int64) (io.ReadCloser, error)
}

func configOf(img v1.Image, d v1.Descriptor) blob {
	return blob{Descriptor: d, open: func() (io.ReadCloser, error) {
		raw, err := img.RawConfigFile()
		return io.NopCloser(bytes.NewReader(raw)), err
	}}
}

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
		if own, ok := l.(manifest.PartLayer); ok {
			if r, err := own.Part(from, to); !errors.Is(err, errors.ErrUnsupported) {
				return r, err
			}
		}
		return blob{Descriptor: d, open: l.Compressed}.section(from, to-from)
	}
	return b
}

// Carry stores layers in the repository of ref, where a later [Client.Put] finds
// them; a Put that comes meanwhile waits for those it needs. Layers that may not
// be distributed are left out.
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

// storeAll stores blobs in parallel.
func (c *Client) storeAll(ctx context.Context, r repository, all []blob) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range all {
		group.Go(func() error { return guard.Do(func() error { return c.storeBlob(ctx, r, b) }) })
	}
	return group.Wait()
}

// storeBlob makes r have b, once a run: mounted from a repository of the same host
// that is known to have it, there already, or uploaded, which happens once a host.
func (c *Client) storeBlob(ctx context.Context, r repository, b blob) error {
	return onceARun(ctx, &c.session.exists.blobs, r.at(b.Digest), func() error {
		if err := c.storeNow(ctx, r, b); err != nil {
			return err
		}
		c.session.exists.addOrigin(r, b.Digest)
		return nil
	})
}

// storeNow stores b in r. While the blob is on its way to another repository of the
// host it waits, holding nothing, to mount it from there.
func (c *Client) storeNow(ctx context.Context, r repository, b blob) error {
	for {
		if _, ok := c.session.mountSource(r, b.Digest); ok {
			return c.storeAlone(ctx, r, b)
		}
		led := false
		_, err := share(ctx, c.session.exists.uploads.Do, origin{r.host.name, b.Digest}, func() (struct{}, error) {
			led = true
			err := c.storeAlone(ctx, r, b)
			if err == nil {
				c.session.exists.addOrigin(r, b.Digest)
			}
			return struct{}{}, err
		})
		switch s := statusOf(err); {
		case led || ctx.Err() != nil:
			return err
		case s < http.StatusBadRequest || s >= http.StatusInternalServerError:
			return c.storeAlone(ctx, r, b)
		}
		// That repository does not take it. The next in line goes ahead.
	}
}

// storeAlone mounts, finds or uploads b.
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

// has asks whether r has b. told is false where the registry refuses the question: b
// may be there, and is sent as if it were not.
func (c *Client) has(ctx context.Context, r repository, b blob) (there, answered bool, err error) {
	k := r.blob(http.MethodHead, b.Digest)
	k.scopes = c.scopes(r)
	k.want = append(k.want, http.StatusNotFound)
	resp, err := c.transport.do(ctx, k)
	if unanswered(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	discard(resp)
	if resp.StatusCode != http.StatusOK {
		return false, true, nil
	}
	if n := resp.ContentLength; n > 0 && n != b.Size {
		return false, true, mismatch("%s: %d bytes in the registry, %d in its descriptor", r.by(b.Digest), n, b.Size)
	}
	return true, true, nil
}

// mount asks the host to take b from another of its repositories. Any refusal
// leads to an upload, for which some registries open a session at once.
func (c *Client) mount(ctx context.Context, r, from repository, b blob) (mounted bool, opened *uploadSession) {
	k := r.request(http.MethodPost, "blobs/uploads/")
	k.ref, k.policy = b.Digest.String(), noRetry|opensSession
	k.query = url.Values{"mount": {b.Digest.String()}, "from": {from.name}}
	k.scopes = append(c.scopes(r), "repository:"+from.name+":pull")
	k.want = []int{http.StatusCreated, http.StatusAccepted}
	resp, err := c.transport.do(ctx, k)
	if err == nil {
		discard(resp)
		if resp.StatusCode == http.StatusCreated {
			return true, nil
		}
		opened, _ = newUploadSession(resp) // without a session there is an upload of its own
	}
	switch s := statusOf(err); {
	case ctx.Err() != nil:
	case s >= http.StatusBadRequest && s < http.StatusInternalServerError: // that may be said of r
		c.session.hosts.noMount.add(from.key() + " " + r.name)
	default:
		c.session.hosts.noMount.add(from.key())
	}
	return false, opened
}

// reader opens b to be sent: it ends with an error in place of its last bytes
// when they are not the digest's, so that wrong bytes are never whole.
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
	return &part{Reader: mismatches{v}, Closer: inner}, nil
}

// mismatches makes the errors of a [verify.Reader] those of a manifest.
type mismatches struct{ io.Reader }

func (r mismatches) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, verify.ErrMismatch) {
		err = mismatch("blob %w", err)
	}
	return n, err
}
