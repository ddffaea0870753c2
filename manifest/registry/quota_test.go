package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A hub is a registry that counts pulls like Docker Hub.
type hub struct {
	*regtest.Registry
	host string

	mu    sync.Mutex
	left  int
	pulls int
}

func startHub(t *testing.T, left int) *hub {
	t.Helper()
	h := &hub{Registry: regtest.Start(t, regtest.Options{}), left: left}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: h.Host})
	to.ModifyResponse = func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/manifests/") {
			resp.Header.Set("ratelimit-limit", "100;w=21600")
			resp.Header.Set("ratelimit-remaining", fmt.Sprintf("%d;w=21600", h.count(resp.Request.Method)))
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if h.empty(req) {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		to.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	h.host = server.Listener.Addr().String()
	return h
}

func (h *hub) count(method string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if method == http.MethodGet {
		h.left--
		h.pulls++
	}
	return h.left
}

func (h *hub) empty(req *http.Request) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left <= 0 && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/")
}

// The reserve of a quota that a HEAD reports is never used, also with concurrent pulls.
// HEADs continue.
func TestQuotaReserve(t *testing.T) {
	h := startHub(t, 24)
	const n = 12
	for i := range n {
		put(t, client(t), fmt.Sprintf("%s/app:v%d", h.Host, i), regtest.Image(t, "amd64", 100, 1))
	}
	c := client(t)
	c.QuotaReserve = 20
	if q, ok := c.Quotas()[h.host]; ok {
		t.Errorf("knows %v before it has asked", q)
	}
	must(c.Resolve(t.Context(), h.host+"/app:v0"))(t)
	if q, ok := c.Quotas()[h.host]; !ok || q != (registry.Quota{Limit: 100, Remaining: 24, Window: 6 * time.Hour}) {
		t.Errorf("%v, %t", q, ok)
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _, _ = c.Get(t.Context(), fmt.Sprintf("%s/app:v%d", h.host, i)) }) // most are refused
	}
	all.Wait()
	must(c.Resolve(t.Context(), h.host+"/app:v1"))(t) // pulls in flight may have been counted twice
	var err error
	for i := 0; err == nil && i < n; i++ {
		_, err = c.Get(t.Context(), fmt.Sprintf("%s/app:v%d", h.host, i))
	}
	if h.left != 20 || h.pulls != 4 {
		t.Errorf("%d left after %d pulls", h.left, h.pulls)
	}
	var e *registry.Error
	at, ok := retryAt(err)
	if !errors.As(err, &e) || e.Kind() != registry.KindRateLimited || !ok || time.Until(at) < 5*time.Hour || time.Until(at) > 6*time.Hour {
		t.Errorf("%v: %v, %t", err, at, ok)
	}
	if !strings.Contains(err.Error(), "20 of 100 pulls are left") || settingOf(err) != "QuotaReserve" {
		t.Errorf("%v: %s", err, settingOf(err))
	}
	must(c.Resolve(t.Context(), h.host+"/app:v5"))(t)
}

// An exhausted quota is not requested again and again.
func TestQuotaUsedUp(t *testing.T) {
	h := startHub(t, 1)
	put(t, client(t), h.Host+"/app:v1", regtest.Image(t, "amd64", 100, 1))
	put(t, client(t), h.Host+"/app:v2", regtest.Image(t, "amd64", 100, 1))
	n := &naps{}
	c := &registry.Client{Keychain: login{}, Sleep: n.sleep}
	must(c.Get(t.Context(), h.host+"/app:v1"))(t)
	_, err := c.Get(t.Context(), h.host+"/app:v2")
	at, ok := retryAt(err)
	if !ok || time.Until(at) < 5*time.Hour || len(n.took) != 0 || !strings.Contains(hintOf(err), "used up") {
		t.Errorf("%v: %v, %t; slept %v; %s", err, at, ok, n.took, hintOf(err))
	}
	must(c.Resolve(t.Context(), h.host+"/app:v2"))(t)
}

// If a registry reports that no requests remain until a time, it gets none before. The run
// waits for at most two minutes.
func TestNoRequestsLeft(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	put(t, client(t), r.Host+"/app:v1", regtest.Image(t, "amd64", 100, 1))
	in := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	for _, one := range []struct {
		status      int
		left, reset string // with and without x-
		least       time.Duration
		fails       bool
	}{
		{status: 200, left: "0", reset: "60", least: 55 * time.Second},
		{status: 200, left: "0", reset: in(time.Minute), least: 55 * time.Second},
		{status: 200, left: "1", reset: "60"},
		{status: 200, left: "0", reset: "3600"},
		{status: 200, left: "0", reset: "soon"},
		{status: 200, left: "0;w=60", reset: "60"},
		{status: 429, left: "0", reset: "60", least: 55 * time.Second},
		{status: 403, left: "0", reset: in(time.Minute), least: 55 * time.Second},
		{status: 429, left: "0", reset: "3600", fails: true},
		{status: 403, left: "0", reset: in(time.Hour), fails: true},
	} {
		for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
			if prefix == "RateLimit-" && one.status == 403 {
				continue // could be due to credentials
			}
			r.Reset()
			r.Inject(regtest.Fault{Path: "/tags/", Status: one.status, Body: "{}", Header: http.Header{
				http.CanonicalHeaderKey(prefix + "Remaining"): {one.left}, http.CanonicalHeaderKey(prefix + "Reset"): {one.reset},
			}})
			n := &naps{}
			c := &registry.Client{Keychain: login{}, Sleep: n.sleep}
			_, err := c.Tags(t.Context(), r.Host+"/app")
			if at, ok := retryAt(err); ok != one.fails || ok && time.Until(at) < 55*time.Minute {
				t.Errorf("%v: %v, come back at %v, %t", one, err, at, ok)
			}
			asked := len(r.Requests())
			_, err = c.Resolve(t.Context(), r.Host+"/app:v1")
			if one.fails { // no other request is sent before then
				if _, ok := retryAt(err); !ok || len(r.Requests()) != asked {
					t.Errorf("%v: %v, %d requests more", one, err, len(r.Requests())-asked)
				}
				continue
			}
			var slept time.Duration
			for _, d := range n.took {
				slept = max(slept, d)
			}
			if err != nil || slept < one.least || one.least == 0 && slept > 0 {
				t.Errorf("%v: %v, slept %v", one, err, n.took)
			}
		}
	}
}
