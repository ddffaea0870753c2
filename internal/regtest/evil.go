package regtest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// Evil is a host that should not receive credentials. It records all requests and answers
// each with Answer, or 200.
type Evil struct {
	URL    string
	Answer http.HandlerFunc

	mu   sync.Mutex
	seen []http.Header
}

// StartEvil starts such a host until the end of t.
func StartEvil(t testing.TB) *Evil {
	e := &Evil{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		e.mu.Lock()
		e.seen = append(e.seen, req.Header.Clone())
		e.mu.Unlock()
		if e.Answer != nil {
			e.Answer(w, req)
		}
	}))
	server.Config.ErrorLog = quiet
	t.Cleanup(server.Close)
	e.URL = server.URL
	return e
}

// Seen returns the headers of all requests.
func (e *Evil) Seen() []http.Header {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seen)
}

// Authorized reports whether any request had credentials.
func (e *Evil) Authorized() bool {
	return slices.ContainsFunc(e.Seen(), func(h http.Header) bool {
		return h.Get("Authorization") != "" || h.Get("Cookie") != ""
	})
}
