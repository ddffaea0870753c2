package registry_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// An interrupted download continues where it ended. One wrong bit is an error.
func TestGetFaults(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	const size = 2 << 20
	img := regtest.Image(t, "amd64", size, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	read := func() error {
		content, err := client(t).Get(t.Context(), r.Host+"/app:v1")
		if err != nil {
			return err
		}
		layers, err := content.(v1.Image).Layers()
		if err != nil {
			return err
		}
		if _, err := content.(v1.Image).RawConfigFile(); err != nil {
			return err
		}
		rc, err := layers[0].Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		return errors.Join(err, rc.Close())
	}
	for name, action := range cuts {
		for _, after := range []int64{0, 1, 64 << 10, 1 << 20, size - 1} {
			r.Reset()
			r.Inject(regtest.Fault{Method: "GET", Nth: 3, Times: 5, Phase: regtest.Down, After: after, Action: action})
			err := read()
			if after > 0 && err != nil {
				t.Errorf("%s after %d: %v", name, after, err)
			}
			var down int64
			for _, req := range r.Requests() {
				down += req.Down
			}
			if err == nil && action == regtest.Close && down > size+size/10 { // RST loses bytes that the client has not read
				t.Errorf("%s after %d: read %d bytes of %d", name, after, down, size)
			}
		}
	}
	for _, path := range []string{"/manifests/", "/blobs/"} {
		for nth := 1; nth <= 2; nth++ {
			for _, fault := range []regtest.Fault{
				{Phase: regtest.Down, After: 100, Action: regtest.Flip},
				{Status: 200, Body: "<html>please log in</html>", Header: http.Header{"Content-Type": {"text/html"}}},
				{Status: 200},
			} {
				r.Reset()
				fault.Method, fault.Path, fault.Nth = "GET", path, nth
				r.Inject(fault)
				err := read()
				if nth == 1 && !errors.Is(err, manifest.ErrMismatch) {
					t.Errorf("%s %d %+v: got %v", path, nth, fault, err)
				}
			}
		}
	}
}

// A response that ends badly after the last byte is complete, and nothing more is
// requested.
func TestGetWithoutAnEnd(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 200_000, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	layer := must(img.Layers())(t)[0]
	want := must(layer.Digest())(t)
	target := must(url.Parse("http://" + r.Host))(t)
	forward := httputil.NewSingleHostReverseProxy(target)
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasSuffix(req.URL.Path, want.Hex) {
			forward.ServeHTTP(w, req)
			return
		}
		if asked.Add(1) > 1 {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		raw := must(layer.Compressed())(t)
		defer raw.Close()
		_, _ = io.Copy(w, raw) // without a length
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	content := must(client(t).Get(t.Context(), server.Listener.Addr().String()+"/app:v1"))(t)
	rc := must(must(content.(v1.Image).LayerByDigest(want))(t).Compressed())(t)
	defer rc.Close()
	is, _, err := v1.SHA256(rc)
	if err != nil || is != want || asked.Load() != 1 {
		t.Errorf("%s, %v, asked %d times", is, err, asked.Load())
	}
}

// A range other than the requested one is not used.
func TestWrongRange(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 200_000, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	content := must(client(t).Get(t.Context(), r.Host+"/app:v1"))(t)
	layer := must(content.(v1.Image).Layers())(t)[0]
	for _, answer := range []regtest.Fault{
		{Status: 206, Header: http.Header{"Content-Range": {"bytes 0-1/2"}}, Body: "xy"},
		{Status: 206, Body: "xy"},
		{Status: 206, Header: http.Header{"Content-Range": {"bytes 99-x/*"}}, Body: "xy"},
	} {
		r.Reset()
		answer.Method, answer.Nth = "GET", 1
		r.Inject(
			regtest.Fault{Method: "GET", Phase: regtest.Down, After: 1000, Action: regtest.Abort},
			answer,
		)
		rc := must(layer.Compressed())(t)
		if _, err := io.Copy(io.Discard, rc); err != nil {
			t.Errorf("%+v: %v", answer, err)
		}
		_ = rc.Close()
	}
}

// All requests wait for Retry-After. If the time is too long, the run does not wait.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	put(t, client(t), r.Host+"/app:v1", regtest.Image(t, "amd64", 100, 1))
	for _, one := range []struct {
		header string
		least  time.Duration
		fails  bool
	}{
		{header: "2", least: 2 * time.Second},
		{header: "0"},
		{header: "-1"},
		{header: "abc"},
		{header: ""},
		{header: "121", fails: true},
		{header: "1000000000", fails: true},
		{header: strings.Repeat("9", 40), fails: true},
		{header: time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), least: 50 * time.Second},
		{header: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), fails: true},
	} {
		r.Reset()
		r.Inject(regtest.Fault{Status: 429, Header: http.Header{"Retry-After": {one.header}}})
		n := &naps{}
		c := &registry.Client{Keychain: login{}, Sleep: n.sleep}
		_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
		if (err != nil) != one.fails {
			t.Errorf("%q: %v", one.header, err)
		}
		if err != nil && !strings.Contains(hintOf(err), "wait until 20") {
			t.Errorf("%q: hint %q", one.header, hintOf(err))
		}
		if at, ok := retryAt(err); ok != one.fails || ok && time.Until(at) < 2*time.Minute {
			t.Errorf("%q: come back at %v, %t", one.header, at, ok)
		}
		if err == nil && (len(n.took) == 0 || n.took[0] < one.least) {
			t.Errorf("%q: slept %v", one.header, n.took)
		}
	}
	r.Reset() // GitHub says 403 for too many requests
	r.Inject(regtest.Fault{Method: "POST", Status: 403, Body: "You have exceeded a secondary rate limit."})
	if err := client(t).Put(t.Context(), r.Host+"/app:v2", regtest.Image(t, "amd64", 100, 1)); err != nil {
		t.Error(err)
	}
}

// retryAt returns the time after which err says to try again.
func retryAt(err error) (time.Time, bool) {
	var e *registry.Error
	if !errors.As(err, &e) {
		return time.Time{}, false
	}
	return e.RetryAt()
}

func TestNobodyThere(t *testing.T) {
	r := must(regtest.New(regtest.Options{}))(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	n := &naps{}
	c := &registry.Client{Keychain: login{}, Sleep: n.sleep}
	_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
	var e *registry.Error
	if !errors.As(err, &e) || e.Attempts != 3 || e.Status != 0 || errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	var total time.Duration
	for _, d := range n.took {
		total += d
	}
	if total > 5*time.Second {
		t.Errorf("waited %v", total)
	}
}
