package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxRedirects bounds the redirects of one request.
const maxRedirects = 5

// openTimeout bounds the wait for the answer to a request that opens a session, after its
// run ended.
const openTimeout = 500 * time.Millisecond

// exchange sends one request, follows redirects and returns the answer. The request holds
// its permit until the body of the answer is read, closed or ctx ends; then the permit is
// given back. An error is an *Error, and holds nothing.
//
// The order is: permit, quota, request. The quota is reserved last before sending, so
// that a request that waits for a permit does not reserve a pull. Only an answer of the
// registry itself counts for the quota and reachability, and has its announcements heeded.
// A pause that its token service asks for holds for the registry too: its requests need
// tokens.
func (t *Transport) exchange(ctx context.Context, r *Request, authorization string) (*http.Response, error) {
	leave, err := t.admit(ctx, r)
	if err != nil {
		return nil, r.ended(err)
	}
	reserve := cmp.Or(r.Registry.QuotaReserve, t.QuotaReserve)
	answered, ok := r.Registry.quotaBudget.reserve(r.pulls(), reserve)
	if !ok {
		leave()
		return nil, r.reserved(reserve)
	}
	if r.is(OpensSession) {
		ctx, leave = untilOpened(ctx, leave)
	}
	ctx, watch := newStallTimer(ctx, t.Patience)
	resp, err := t.follow(ctx, r, watch, authorization)
	if r.is(toTokenService) || err != nil || r.redirected(resp) {
		answered(nil)
	} else {
		answered(resp)
		r.Registry.heed(resp)
		r.Registry.setReachable(true)
	}
	if err != nil {
		e := r.broken(ctx, watch, err)
		leave()
		watch.stop()
		return nil, e
	}
	resp.Body = newResponseBody(ctx, resp.Body, watch, leave)
	return resp, nil
}

// admit waits until the request may be sent and returns the function that gives its
// permit back. Requests for tokens and downloads of blobs have semaphores of their own. A
// request that holds a permit may wait for either of them, which would deadlock with one
// semaphore. A request that closes an upload session as the run ends waits for nothing.
func (t *Transport) admit(ctx context.Context, r *Request) (leave func(), err error) {
	switch {
	case r.is(Cleanup):
		return func() {}, nil
	case r.is(toTokenService):
		return r.Registry.tokens.Acquire(ctx)
	case r.is(Download) && r.Method == http.MethodGet:
		return r.Registry.pause.acquire(ctx, t.Sleep, r.Registry.contents)
	}
	return r.Registry.pause.acquire(ctx, t.Sleep, r.Registry.requests)
}

// untilOpened returns a context that ends openTimeout after ctx. If ctx ends while a
// session is being opened, the answer with the session's URL may still arrive in that
// time, so that the session can be closed. leave ends the context too.
func untilOpened(ctx context.Context, leave func()) (context.Context, func()) {
	longer, end := Outliving(ctx, openTimeout)
	return longer, func() {
		end()
		leave()
	}
}

// Outliving returns a context that ends d after ctx, or with stop. It has the values of
// ctx. The caller must call stop.
func Outliving(ctx context.Context, d time.Duration) (longer context.Context, stop func()) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			end()
		case <-longer.Done():
		}
	})
	return longer, func() {
		forget()
		end()
	}
}

// follow sends the request and follows redirects. Authorization is sent only while every
// URL so far has the origin of the first one (scheme, host and port): after a redirect to
// another host it is not sent again, not even to the first host.
func (t *Transport) follow(ctx context.Context, r *Request, watch *stallTimer, authorization string) (*http.Response, error) {
	origin, trusted, err := t.target(ctx, r)
	if err != nil {
		return nil, err
	}
	for u, hops := origin, 0; ; hops++ {
		req, err := t.request(ctx, r, u, watch)
		if err != nil {
			return nil, err
		}
		if authorization != "" && trusted {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := t.send(r, req, trusted)
		if err != nil {
			return nil, err
		}
		next, err := redirectTarget(r, resp, u)
		if next == nil && err == nil {
			return resp, nil
		}
		discard(resp)
		if err != nil {
			return nil, err
		}
		if hops == maxRedirects {
			return nil, refuse(errors.New("too many redirects"))
		}
		u, trusted = next, trusted && sameOrigin(origin, next)
	}
}

// target returns the first URL of a request, and whether it is the registry itself or a
// token service that may have the registry's credentials. If it is, the credentials may
// be sent, and a private address is allowed.
func (t *Transport) target(ctx context.Context, r *Request) (u *url.URL, trusted bool, err error) {
	if r.is(toTokenService) {
		return r.URL, t.auth.trusts(r.Registry, r.URL), nil
	}
	scheme, err := t.decide(ctx, r.Registry)
	if err != nil {
		return nil, false, err
	}
	base := r.Registry.base(scheme)
	if r.URL == nil {
		u := base
		if r.Path != "" {
			u = base.JoinPath(r.Path)
		}
		u.RawQuery = r.Query.Encode()
		return u, true, nil
	}
	if r.URL.Scheme == "http" && scheme == "https" {
		return nil, false, refuse(fmt.Errorf("%s redirects from https to http", r.Registry.Name))
	}
	return r.URL, sameOrigin(base, r.URL), nil
}

// request returns the http.Request to u. GetBody allows http.Transport to repeat it on a
// new connection.
func (t *Transport) request(ctx context.Context, r *Request, u *url.URL, watch *stallTimer) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), nil)
	if err != nil {
		return nil, refuse(err)
	}
	for key, values := range r.Header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", t.UserAgent)
	if r.Body != nil && r.Body.Size > 0 {
		req.ContentLength = r.Body.Size
		req.GetBody = func() (io.ReadCloser, error) { return r.Body.reader(watch), nil }
		req.Body = r.Body.reader(watch)
	}
	return req, nil
}

// send sends req over the transport for its URL and logs it.
func (t *Transport) send(r *Request, req *http.Request, trusted bool) (*http.Response, error) {
	to, err := t.transportTo(r.Registry, req.URL, trusted)
	if err != nil {
		return nil, refuse(err)
	}
	start := time.Now()
	resp, err := to.RoundTrip(req)
	t.logRequest(req, resp, err, time.Since(start))
	return resp, err
}

// redirectTarget returns the URL to which resp redirects, or nil if resp is an answer.
// 307 and 308 keep the method and the body. The other redirects would change a PUT to a
// GET (RFC 9110, 15.4), so they are followed for GET and HEAD only. A redirect from https
// to http is an error, and so is any redirect of a token request, which could carry
// credentials.
func redirectTarget(r *Request, resp *http.Response, from *url.URL) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return nil, nil
		}
	default:
		return nil, nil
	}
	to, err := from.Parse(resp.Header.Get("Location"))
	switch {
	case err != nil || resp.Header.Get("Location") == "":
		return nil, refuse(errors.New("a redirect without a location"))
	case to.Scheme != "https" && (to.Scheme != "http" || from.Scheme == "https"):
		return nil, refuse(fmt.Errorf("redirect from %s to %s", from.Scheme, Clean(to.Scheme)))
	case r.is(toTokenService):
		return nil, refuse(errors.New("a token server must not redirect"))
	}
	to.User = nil
	return to, nil
}

// Location returns the URL to which an answer directs the next request, or nil. A
// registry behind a proxy that ends TLS may give an http URL with the registry's host;
// the scheme of the request is used instead, so that an upload is encrypted.
func Location(resp *http.Response) *url.URL {
	from := resp.Request.URL
	location := resp.Header.Get("Location")
	u, err := from.Parse(location)
	if err != nil || location == "" || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil
	}
	if near := (&url.URL{Scheme: from.Scheme, Host: u.Host}); sameOrigin(near, from) {
		u.Scheme = from.Scheme
	}
	u.User, u.Fragment = nil, ""
	return u
}
