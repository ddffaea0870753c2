package regtest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Request is one request as the proxy saw it.
type Request struct {
	Method, Path string
	Host         string // the Host header
	Query        url.Values
	Header       http.Header
	Authorized   string   // scheme of its credentials: "", "Basic", "Bearer"
	Scopes       []string // requested from the token service
	Status       int      // of the response; 0 if there was none
	Up, Down     int64    // bytes of the bodies
	Faulted      bool
	At           time.Time // arrival
}

// Kind returns the method and the subject of the request: "HEAD manifest", "GET blob",
// "POST upload", "POST mount", "PATCH upload", "PUT upload", "GET tags", "GET catalog",
// "GET token", …
func (r Request) Kind() string {
	noun := "other"
	switch {
	case r.Path == tokenPath:
		noun = "token"
	case strings.Contains(r.Path, "/blobs/uploads/") && r.Query.Get("mount") != "":
		noun = "mount"
	case strings.Contains(r.Path, "/blobs/uploads/"):
		noun = "upload"
	case strings.Contains(r.Path, "/blobs/"):
		noun = "blob"
	case strings.Contains(r.Path, "/referrers/"):
		noun = "referrers"
	case strings.Contains(r.Path, "/manifests/"):
		noun = "manifest"
	case strings.HasSuffix(r.Path, "/tags/list"):
		noun = "tags"
	case strings.HasSuffix(r.Path, "/_catalog"):
		noun = "catalog"
	}
	return r.Method + " " + noun
}

// Requests returns the requests since the start or the last Reset, in the order of arrival.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Request, len(r.requests))
	for i, one := range r.requests {
		all[i] = *one
	}
	return all
}

// Tally counts the requests by kind, as in {"HEAD manifest": 6}.
func (r *Registry) Tally() map[string]int {
	tally := map[string]int{}
	for _, one := range r.Requests() {
		tally[one.Kind()]++
	}
	return tally
}

// Total counts the requests, without those to the token service.
func (r *Registry) Total() int {
	total := 0
	for kind, n := range r.Tally() {
		if !strings.HasSuffix(kind, " token") {
			total += n
		}
	}
	return total
}

// Reset removes the log of requests and the faults. Content and tokens stay.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.faults = nil, nil
}

// begin logs a request and returns a function that completes its entry.
func (r *Registry) begin(req *http.Request) func(func(*Request)) {
	scheme, _, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	entry := &Request{
		Method: req.Method, Path: req.URL.Path, Host: req.Host, Query: req.URL.Query(),
		Header: req.Header.Clone(), Authorized: scheme, At: time.Now(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, entry)
	return func(change func(*Request)) {
		r.mu.Lock()
		defer r.mu.Unlock()
		change(entry)
	}
}
