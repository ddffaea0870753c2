package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A run that ends waits this long for the answer to a request that opens an upload
// session, and then takes this long to close it.
const (
	openTimeout    = 500 * time.Millisecond
	cleanupTimeout = 800 * time.Millisecond
)

// An uploadSession is an upload that a registry has opened.
type uploadSession struct {
	url      *url.URL
	minChunk int64 // OCI-Chunk-Min-Length
}

// newUploadSession reads where an upload is to be sent. A registry behind a proxy that
// takes TLS off may name itself with http; it is still spoken to with https.
func newUploadSession(resp *http.Response) (*uploadSession, error) {
	from := resp.Request.URL
	location := resp.Header.Get("Location")
	u, err := from.Parse(location)
	if err != nil || location == "" || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the registry gives no upload location")
	}
	if near := (&url.URL{Scheme: from.Scheme, Host: u.Host}); sameOrigin(near, from) {
		u.Scheme = from.Scheme
	}
	u.User, u.Fragment = nil, ""
	minChunk, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	if err != nil {
		minChunk = 0
	}
	return &uploadSession{url: u, minChunk: minChunk}, nil
}

// Prepare asks what ref names now; the zero descriptor means nothing. Where it
// names nothing it opens the upload of the first blob, which proves the right to
// push; release closes it if no blob came.
func (c *Client) Prepare(ctx context.Context, ref string) (current v1.Descriptor, release func(), err error) {
	release = func() {}
	r, err := c.parse(ref)
	if err != nil {
		return v1.Descriptor{}, release, err
	}
	c.writing(r.repository)
	if current, err = c.target(ctx, r); err != nil || current.Digest != (v1.Hash{}) {
		return current, release, err
	}
	s, err := c.open(ctx, r.repository, "")
	if err != nil {
		return v1.Descriptor{}, release, err
	}
	c.session.openUploads.offer(r.repository, s)
	return current, sync.OnceFunc(func() {
		if c.session.openUploads.withdraw(r.repository, s) {
			c.cancel(ctx, r.repository, s)
		}
	}), nil
}

// openUploads are the sessions that were opened early, by repository.
type openUploads struct {
	mu sync.Mutex
	m  map[string][]*uploadSession
}

// offer keeps a session for the first blob that needs one.
func (u *openUploads) offer(r repository, s *uploadSession) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = map[string][]*uploadSession{}
	}
	u.m[r.key()] = append(u.m[r.key()], s)
}

// take returns a session that was offered, or nil.
func (u *openUploads) take(r repository) *uploadSession {
	u.mu.Lock()
	defer u.mu.Unlock()
	offered := u.m[r.key()]
	if len(offered) == 0 {
		return nil
	}
	u.m[r.key()] = offered[1:]
	return offered[0]
}

// withdraw removes s, and reports whether it was still there.
func (u *openUploads) withdraw(r repository, s *uploadSession) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := slices.Index(u.m[r.key()], s)
	if at < 0 {
		return false
	}
	u.m[r.key()] = slices.Delete(slices.Clone(u.m[r.key()]), at, at+1)
	return true
}

// open opens an upload session. ref is for people.
func (c *Client) open(ctx context.Context, r repository, ref string) (*uploadSession, error) {
	k := r.request(http.MethodPost, "blobs/uploads/")
	k.ref, k.scopes, k.policy = ref, c.scopes(r), opensSession
	k.want = []int{http.StatusAccepted}
	resp, err := c.transport.do(ctx, k)
	if err != nil {
		return nil, err
	}
	discard(resp)
	s, err := newUploadSession(resp)
	if err != nil {
		e := k.fault(err)
		e.Status, e.final = resp.StatusCode, true
		return nil, e
	}
	if ctx.Err() != nil {
		c.cancel(ctx, r, s)
		return nil, k.ended(stopped(ctx))
	}
	return s, nil
}

// cancel closes a session that nobody will use, as well as it can, also when ctx
// has ended. A registry that does not know the session where it was left, since
// bytes were still on their way, is asked where it is now.
func (c *Client) cancel(ctx context.Context, r repository, s *uploadSession) {
	if s == nil {
		return
	}
	talk, stop := outliving(ctx, c.transport.cleanupTimeout)
	defer stop()
	_, err := c.last(ctx, talk, r, s, http.MethodDelete)
	for wait := 10 * time.Millisecond; statusOf(err) != 0 && wait < c.transport.cleanupTimeout && sleep(talk, wait) == nil; wait *= 2 {
		var now *uploadSession
		if now, err = c.last(ctx, talk, r, s, http.MethodGet); isThrottled(err) {
			continue
		} else if err != nil {
			break
		}
		s = now
		_, err = c.last(ctx, talk, r, s, http.MethodDelete)
	}
	if err != nil && statusOf(err) != http.StatusNotFound {
		c.transport.log.Debug("an upload session was not closed", "repository", r.key(), "err", err)
	}
}

// last sends a last word about a session, under talk, and returns what the answer
// says of it. While ctx has not ended it waits for a pause to be over, as all do.
func (c *Client) last(ctx, talk context.Context, r repository, s *uploadSession, method string) (*uploadSession, error) {
	if leave, err := r.host.pause.acquire(ctx, c.transport.sleep, newSemaphore(1)); err == nil {
		leave()
	}
	talk, stop := context.WithTimeout(talk, c.transport.cleanupTimeout)
	defer stop()
	k := &request{
		method: method, host: r.host, repo: r.name, url: s.url, header: http.Header{},
		scopes: c.scopes(r), policy: noRetry | cleanup,
		want: []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted},
	}
	resp, err := c.transport.do(talk, k)
	if err != nil {
		return nil, err
	}
	discard(resp)
	if method == http.MethodDelete {
		return nil, nil
	}
	return newUploadSession(resp)
}
