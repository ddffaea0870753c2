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

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// cleanupTimeout bounds the time for closing a session when a run ends. A session that is
// left open costs the registry disk space until it expires.
const cleanupTimeout = 800 * time.Millisecond

// An uploadSession is an upload session that a registry has opened ("Pushing blobs"). Its
// URL may change with each request.
type uploadSession struct {
	url      *url.URL
	minChunk int64 // OCI-Chunk-Min-Length in bytes; 0 if there is none
}

// newUploadSession returns the session that an answer describes.
func newUploadSession(resp *http.Response) (*uploadSession, error) {
	u := transport.Location(resp)
	if u == nil {
		return nil, errors.New("the registry gives no upload location")
	}
	minChunk, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	if err != nil {
		minChunk = 0
	}
	return &uploadSession{url: u, minChunk: minChunk}, nil
}

// Prepare returns what ref names now; the zero descriptor means nothing. In that case it
// opens an upload session, which shows that the credentials may push before anything is
// built. The first blob of the repository uses the session. release closes it if no blob
// has; it may be called more than once and is never nil.
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

// openUploads are the sessions that Prepare opened, by repository. Each is given to one
// upload only.
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

// take removes and returns a session, or nil.
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

// withdraw removes s and reports whether it was still there. If it was not, an upload
// owns it.
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

// open opens an upload session. ref is the digest for errors and may be "". If ctx has
// ended by the time of the answer, the session is closed at once, since the caller will
// not use it.
func (c *Client) open(ctx context.Context, r repository, ref string) (*uploadSession, error) {
	req := r.request(http.MethodPost, "blobs/uploads/")
	req.Reference, req.Scopes, req.Policy = ref, c.scopes(r), transport.OpensSession
	req.Want = []int{http.StatusAccepted}
	resp, err := c.transport.Ask(ctx, req)
	if err != nil {
		return nil, err
	}
	s, err := newUploadSession(resp)
	if err != nil {
		return nil, req.Answer(resp.StatusCode, err)
	}
	if ctx.Err() != nil {
		c.cancel(ctx, r, s)
		return nil, req.Stopped(ctx)
	}
	return s, nil
}

// cancel closes a session that is not used further (DELETE), also if ctx has ended; it
// takes at most cleanupTimeout after that. A failure is logged only. Some registries do
// not find the session at its last URL while bytes are still arriving, so cancel asks for
// the current URL and tries again, with growing waits.
func (c *Client) cancel(ctx context.Context, r repository, s *uploadSession) {
	if s == nil {
		return
	}
	talk, stop := transport.Outliving(ctx, c.cleanupTimeout)
	defer stop()
	_, err := c.last(ctx, talk, r, s, http.MethodDelete)
	for wait := 10 * time.Millisecond; transport.StatusOf(err) != 0 && wait < c.cleanupTimeout && transport.Sleep(talk, wait) == nil; wait *= 2 {
		var now *uploadSession
		if now, err = c.last(ctx, talk, r, s, http.MethodGet); transport.Throttled(err) {
			continue
		} else if err != nil {
			break
		}
		s = now
		_, err = c.last(ctx, talk, r, s, http.MethodDelete)
	}
	if err != nil && transport.StatusOf(err) != http.StatusNotFound {
		c.transport.Log.Debug("an upload session was not closed", "repository", r.key(), "err", err)
	}
}

// last sends one request about a session under talk, and returns the session that the
// answer describes. It waits for a pause of the host only while ctx has not ended, and it
// takes no permit: the requests that hold the permits may be the ones that the end of the
// run waits for.
func (c *Client) last(ctx, talk context.Context, r repository, s *uploadSession, method string) (*uploadSession, error) {
	c.transport.AwaitPause(ctx, r.host)
	talk, stop := context.WithTimeout(talk, c.cleanupTimeout)
	defer stop()
	req := &transport.Request{
		Method: method, Registry: r.host, Repository: r.name, URL: s.url, Header: http.Header{},
		Scopes: c.scopes(r), Policy: transport.NoRetry | transport.Cleanup,
		Want: []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted},
	}
	resp, err := c.transport.Ask(talk, req)
	if err != nil {
		return nil, err
	}
	if method == http.MethodDelete {
		return nil, nil
	}
	return newUploadSession(resp)
}
