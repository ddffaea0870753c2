package regtest

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/mabuild/mabuild/internal/stream"
)

var errStruck = errors.New("a fault struck")

// serve is the handler of the proxy in front of the judge.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	entry := r.begin(req)
	status := func(code int) { entry(func(e *Request) { e.Status = code }) }
	fault := r.strike(req)
	if fault != nil {
		entry(func(e *Request) { e.Faulted = true })
		if fault.Phase == Before {
			status(r.act(w, req, fault))
			return
		}
	}
	if req.URL.Path == tokenPath {
		status(r.serveToken(w, req, entry))
		return
	}
	if r.spill() {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		status(http.StatusTooManyRequests)
		return
	}
	if !r.admits(req) {
		status(r.challenge(w, req))
		return
	}
	resp, err := r.forward(req, fault, entry)
	switch {
	case errors.Is(err, errStruck):
		status(r.act(w, req, fault))
		return
	case err != nil:
		hangUp(req, false)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if fault != nil && fault.Phase == Answer {
		_, _ = io.Copy(io.Discard, resp.Body)
		status(r.act(w, req, fault))
		return
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	status(resp.StatusCode)
	r.answer(w, req, resp.Body, fault, entry)
}

// forward sends req to the judge, unless a fault prevents it.
func (r *Registry) forward(req *http.Request, fault *Fault, entry func(func(*Request))) (*http.Response, error) {
	to := *req.URL
	to.Scheme, to.Host = r.judge.Scheme, r.judge.Host
	out, err := http.NewRequestWithContext(req.Context(), req.Method, to.String(), nil)
	if err != nil {
		return nil, err
	}
	out.Header, out.Host, out.ContentLength = req.Header.Clone(), req.Host, req.ContentLength
	if req.TLS != nil {
		out.Header.Set("X-Forwarded-Proto", "https")
	}
	out.Header.Del("Authorization")
	if r.options.NoRanges {
		out.Header.Del("Range")
	}
	if req.ContentLength != 0 {
		out.Body = counted(req.Body, fault, entry)
	}
	return r.toJudge.RoundTrip(out)
}

// counted is the body of a request on its way up, cut where the fault says.
func counted(body io.ReadCloser, fault *Fault, entry func(func(*Request))) io.ReadCloser {
	sent := int64(0)
	return stream.WithClose(stream.Reader(func(p []byte) (int, error) {
		if fault != nil && fault.Phase == Up {
			left := fault.After - sent
			if left <= 0 {
				return 0, errStruck
			}
			p = p[:min(int64(len(p)), left)]
		}
		n, err := body.Read(p)
		sent += int64(n)
		entry(func(e *Request) { e.Up += int64(n) })
		return n, err
	}), body.Close)
}

// answer sends the body of the response, unless a fault prevents it.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request, body io.Reader, fault *Fault, entry func(func(*Request))) {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	to := stream.Writer(func(p []byte) (int, error) {
		n, err := w.Write(p)
		entry(func(e *Request) { e.Down += int64(n) })
		return n, err
	})
	if fault == nil || fault.Phase != Down {
		_, _ = io.Copy(to, body)
		return
	}
	_, _ = io.CopyN(to, body, fault.After)
	flush()
	switch fault.Action {
	case Slow:
		_ = pace(to, body, fault.Rate, flush)
	case Flip:
		one := make([]byte, 1)
		if _, err := io.ReadFull(body, one); err == nil {
			one[0] ^= 1
			_, _ = to.Write(one)
		}
		_, _ = io.Copy(to, body)
	default:
		r.act(w, req, fault)
	}
}

// connState counts connections.
func (r *Registry) connState(_ net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateNew:
		r.conns++
		r.most = max(r.most, r.conns)
	case http.StateClosed, http.StateHijacked:
		r.conns--
	}
}

// MostConnections returns the highest number of open connections.
func (r *Registry) MostConnections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// spill reports whether a request exceeds the rate. The bucket holds the requests of one
// second.
func (r *Registry) spill() bool {
	if r.options.Rate == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, rate := time.Now(), float64(r.options.Rate)
	if r.filled.IsZero() {
		r.bucket = rate
	} else {
		r.bucket = min(rate, r.bucket+rate*now.Sub(r.filled).Seconds())
	}
	r.filled = now
	if r.bucket < 1 {
		return true
	}
	r.bucket--
	return false
}
