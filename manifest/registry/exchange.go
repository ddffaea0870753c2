package registry

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

// exchange sends one request, follows redirects and returns the answer. The request holds
// its permit until the body of the answer is read, closed or ctx ends; then the permit is
// given back. An error is an *Error, and holds nothing.
//
// The order is: permit, quota, request. The quota is reserved last before sending, so
// that a request that waits for a permit does not reserve a pull. Only an answer of the
// registry itself counts for the quota, the pause and reachability.
func (w *transport) exchange(ctx context.Context, k *request, authorization string) (*http.Response, error) {
	leave, err := w.admit(ctx, k)
	if err != nil {
		return nil, k.ended(err)
	}
	reserve := cmp.Or(k.host.QuotaReserve, w.reserve)
	answered, ok := k.host.quotaBudget.reserve(k.pulls(), reserve)
	if !ok {
		leave()
		return nil, k.reserved(reserve)
	}
	if k.is(opensSession) {
		ctx, leave = untilOpened(ctx, leave)
	}
	ctx, watch := newStallTimer(ctx, w.patience)
	resp, err := w.follow(ctx, k, watch, authorization)
	if k.kind == kindToken || err != nil || k.redirected(resp) {
		answered(nil)
	} else {
		answered(resp)
		k.host.heed(resp)
		k.host.setReachable(true)
	}
	if err != nil {
		e := k.broken(ctx, watch, err)
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
func (w *transport) admit(ctx context.Context, k *request) (leave func(), err error) {
	switch {
	case k.is(cleanup):
		return func() {}, nil
	case k.kind == kindToken:
		return k.host.tokens.acquire(ctx)
	case k.kind == kindBlob && k.method == http.MethodGet:
		return k.host.pause.acquire(ctx, w.sleep, k.host.contents)
	}
	return k.host.pause.acquire(ctx, w.sleep, k.host.requests)
}

// untilOpened returns a context that ends openTimeout after ctx. If ctx ends while a
// session is being opened, the answer with the session's URL may still arrive in that
// time, so that the session can be closed. leave ends the context too.
func untilOpened(ctx context.Context, leave func()) (context.Context, func()) {
	longer, end := outliving(ctx, openTimeout)
	return longer, func() {
		end()
		leave()
	}
}

// outliving returns a context that ends d after ctx, or with stop. It has the values of
// ctx. The caller must call stop.
func outliving(ctx context.Context, d time.Duration) (longer context.Context, stop func()) {
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
func (w *transport) follow(ctx context.Context, k *request, watch *stallTimer, authorization string) (*http.Response, error) {
	origin, trusted, err := w.target(ctx, k)
	if err != nil {
		return nil, err
	}
	for u, hops := origin, 0; ; hops++ {
		req, err := w.request(ctx, k, u, watch)
		if err != nil {
			return nil, err
		}
		if authorization != "" && trusted {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := w.send(k, req, trusted)
		if err != nil {
			return nil, err
		}
		next, err := redirectTarget(k, resp, u)
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
func (w *transport) target(ctx context.Context, k *request) (u *url.URL, trusted bool, err error) {
	if k.kind == kindToken {
		return k.url, w.auth.trusts(k.host, k.url), nil
	}
	scheme, err := w.decide(ctx, k.host)
	if err != nil {
		return nil, false, err
	}
	base := k.host.base(scheme)
	if k.url == nil {
		u := base
		if k.path != "" {
			u = base.JoinPath(k.path)
		}
		u.RawQuery = k.query.Encode()
		return u, true, nil
	}
	if k.url.Scheme == "http" && scheme == "https" {
		return nil, false, refuse(fmt.Errorf("%s redirects from https to http", k.host.name))
	}
	return k.url, sameOrigin(base, k.url), nil
}

// request returns the http.Request to u. GetBody allows http.Transport to repeat it on a
// new connection.
func (w *transport) request(ctx context.Context, k *request, u *url.URL, watch *stallTimer) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), nil)
	if err != nil {
		return nil, refuse(err)
	}
	for key, values := range k.header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", w.agent)
	if k.body != nil && k.body.size > 0 {
		req.ContentLength = k.body.size
		req.GetBody = func() (io.ReadCloser, error) { return k.body.reader(watch), nil }
		req.Body = k.body.reader(watch)
	}
	return req, nil
}

// send sends req over the transport for its URL and logs it.
func (w *transport) send(k *request, req *http.Request, trusted bool) (*http.Response, error) {
	t, err := w.transportTo(k.host, req.URL, trusted)
	if err != nil {
		return nil, refuse(err)
	}
	start := time.Now()
	resp, err := t.RoundTrip(req)
	w.logRequest(req, resp, err, time.Since(start))
	return resp, err
}

// redirectTarget returns the URL to which resp redirects, or nil if resp is an answer.
// 307 and 308 keep the method and the body. The other redirects would change a PUT to a
// GET (RFC 9110, 15.4), so they are followed for GET and HEAD only. A redirect from https
// to http is an error, and so is any redirect of a token request, which could carry
// credentials.
func redirectTarget(k *request, resp *http.Response, from *url.URL) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if k.method != http.MethodGet && k.method != http.MethodHead {
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
		return nil, refuse(fmt.Errorf("redirect from %s to %s", from.Scheme, clean(to.Scheme)))
	case k.kind == kindToken:
		return nil, refuse(errors.New("a token server must not redirect"))
	}
	to.User = nil
	return to, nil
}
