package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// kinds are the requests of a push and a pull, as faults match them.
var kinds = []struct{ name, method, path string }{
	{"HEAD tag", "HEAD", "/manifests/v1"},
	{"HEAD child", "HEAD", "/manifests/sha256"},
	{"HEAD blob", "HEAD", "/blobs/"},
	{"POST", "POST", ""},
	{"PUT blob", "PUT", "/blobs/"},
	{"PUT child", "PUT", "/manifests/sha256"},
	{"PUT tag", "PUT", "/manifests/v1"},
}

// A request that fails once or three times is repeated. One that always fails ends the push
// with an error that names it, and the tag does not change.
func TestPutTemporary(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	ref := r.Host + "/app:v1"
	old := regtest.RandomIndex(t, 500, 1, "amd64")
	put(t, client(t), ref, old)
	for _, kind := range kinds {
		for _, status := range []int{408, 429, 499, 500, 502, 503, 504, 522} {
			for _, times := range []int{1, 3} {
				r.Reset()
				next := regtest.RandomIndex(t, 500, 1, "amd64", "arm64")
				r.Inject(regtest.Fault{Method: kind.method, Path: kind.path, Times: times, Status: status})
				if err := client(t).Put(t.Context(), ref, next); err != nil {
					t.Errorf("%s %d × %d: %v", kind.name, status, times, err)
				}
				verifyTag(t, r, "app:v1", next)
				old = next
			}
		}
		r.Reset()
		r.Inject(regtest.Fault{Method: kind.method, Path: kind.path, Times: -1, Status: 503})
		err := client(t).Put(t.Context(), ref, regtest.RandomIndex(t, 500, 1, "amd64", "arm64"))
		var e *registry.Error
		if !errors.As(err, &e) || e.Status != 503 || e.Attempts != 6 || e.Host != r.Host || e.Repository != "app" || e.Op != kind.method {
			t.Errorf("%s always 503: %v", kind.name, err)
		}
		verifyTag(t, r, "app:v1", old)
	}
}

// cuts are the ways in which a connection ends.
var cuts = map[string]regtest.Action{"FIN": regtest.Close, "RST": regtest.Abort}

// arrived returns how much of the last upload the judge has, or -1 if that is unknown.
func arrived(t *testing.T, r *regtest.Registry) int64 {
	t.Helper()
	for _, req := range slices.Backward(r.Requests()) {
		if req.Method != http.MethodPut && req.Method != http.MethodPatch {
			continue
		}
		at := url.URL{Scheme: "http", Host: r.Judge(), Path: req.Path, RawQuery: req.Query.Encode()}
		resp, err := http.Get(at.String())
		if err != nil {
			return -1
		}
		defer resp.Body.Close()
		_, last, _ := strings.Cut(resp.Header.Get("Range"), "-")
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || resp.StatusCode != http.StatusNoContent {
			return -1
		}
		return n + 1
	}
	return -1
}

// patient returns a client that waits a moment until the judge notices that a connection is
// closed.
func patient() *registry.Client {
	return &registry.Client{Keychain: login{}, Sleep: func(ctx context.Context, _ time.Duration) error {
		time.Sleep(50 * time.Millisecond)
		return ctx.Err()
	}}
}

// An upload that is interrupted anywhere arrives with at most two more attempts.
func TestPutCut(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	const size = 2 << 20
	for name, action := range cuts {
		for _, after := range []int64{0, 1, 64 << 10, 1 << 20, size - 1} {
			t.Run(fmt.Sprint(name, after), func(t *testing.T) {
				r.Reset()
				img := regtest.Image(t, "amd64", size, 1)
				c := patient()
				goesOn := after >= 64<<10 && action == regtest.Close
				if goesOn {
					c.Sleep = func(ctx context.Context, _ time.Duration) error {
						for n := 0; n < 1000 && arrived(t, r) != after; n++ { // until the judge sees that the connection is gone
							time.Sleep(10 * time.Millisecond)
						}
						return ctx.Err()
					}
				}
				r.Inject(regtest.Fault{Method: "PUT", Path: "/uploads/", Phase: regtest.Up, After: after, Action: action})
				if err := c.Carry(t.Context(), r.Host+"/app:v1", must(img.Layers())(t)...); err != nil {
					t.Fatal(err)
				}
				var sent int64
				for _, req := range r.Requests() {
					sent += req.Up
				}
				if sent < size || sent > 2*size+size/10 {
					t.Errorf("sent %d bytes of %d", sent, size)
				}
				if goesOn && r.Tally()["PATCH upload"] != 1 {
					t.Errorf("began again: %v", r.Tally())
				}
				put(t, c, r.Host+"/app:v1", img)
				verifyTag(t, r, "app:v1", img)
			})
		}
	}
}

// An upload that is interrupted repeatedly arrives as long as each attempt makes progress.
func TestPutCutOften(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 10<<20, 1)
	c := patient()
	for _, method := range []string{"PUT", "PATCH"} {
		r.Inject(regtest.Fault{Method: method, Path: "/uploads/", Times: 9, Phase: regtest.Up, After: 1 << 20, Action: regtest.Close})
	}
	if err := c.Carry(t.Context(), r.Host+"/app:v1", must(img.Layers())(t)...); err != nil {
		t.Fatal(err)
	}
	put(t, c, r.Host+"/app:v1", img)
	verifyTag(t, r, "app:v1", img)
}

// If a response is lost, a HEAD finds what arrived.
func TestPutAnswerLost(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, kind := range kinds {
		for name, action := range cuts {
			r.Reset()
			idx := regtest.RandomIndex(t, 500, 1, "amd64", "arm64")
			r.Inject(regtest.Fault{Method: kind.method, Path: kind.path, Phase: regtest.Answer, Action: action})
			put(t, client(t), r.Host+"/app:v1", idx)
			verifyTag(t, r, "app:v1", idx)
			if n := r.Tally()["PUT upload"]; n != 4 {
				t.Errorf("%s %s: %d blobs of 4 sent", kind.name, name, n)
			}
			if n := r.Tally()["PUT manifest"]; n != 3 {
				t.Errorf("%s %s: %d manifests of 3 sent", kind.name, name, n)
			}
		}
	}
}

// A registry with immutable tags refuses a tag that it already has.
func TestImmutableTag(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 500, 1, "amd64")
	r.Inject(
		regtest.Fault{Method: "PUT", Path: "/manifests/v1", Phase: regtest.Answer, Status: 400, Body: `{"errors":[{"code":"TAG_INVALID","message":"immutable"}]}`},
		regtest.Fault{Method: "PUT", Path: "/manifests/v1", Times: -1, Status: 400},
	)
	put(t, client(t), r.Host+"/app:v1", idx)
	r.Reset()
	r.Inject(regtest.Fault{Method: "PUT", Path: "/manifests/v1", Times: -1, Status: 409, Body: `{"errors":[{"code":"DENIED","message":"the tag is immutable"}]}`})
	err := client(t).Put(t.Context(), r.Host+"/app:v1", regtest.RandomIndex(t, 500, 1, "amd64"))
	if err == nil || !strings.Contains(err.Error(), "the tag is immutable") || errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	verifyTag(t, r, "app:v1", idx)
}

// A registry that shows new content late gets up to five attempts.
func TestPutUnknownParts(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	unknown := `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}`
	for _, times := range []int{1, 3} {
		for _, path := range []string{"/manifests/v1", "/manifests/sha256"} {
			r.Reset()
			idx := regtest.RandomIndex(t, 500, 1, "amd64", "arm64")
			r.Inject(regtest.Fault{Method: "PUT", Path: path, Times: times, Status: 404, Body: unknown})
			put(t, client(t), r.Host+"/app:v1", idx)
			verifyTag(t, r, "app:v1", idx)
		}
	}
	r.Reset()
	r.Inject(regtest.Fault{Method: "PUT", Path: "/manifests/v1", Times: -1, Status: 404, Body: unknown})
	err := client(t).Put(t.Context(), r.Host+"/app:v1", regtest.RandomIndex(t, 500, 1, "amd64"))
	if err == nil || errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// If a registry or a proxy does not accept a blob in one request, it is sent in chunks.
func TestPutChunked(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, status := range []int{404, 405, 411, 413, 415, 416} {
		r.Reset()
		layer := must(random.Layer(300_000, types.OCILayer, random.WithSource(regtest.Source(t))))(t)
		times := 1
		if status == http.StatusNotFound {
			times = 2 // one could be due to the age of the session
		}
		r.Inject(regtest.Fault{Method: "PUT", Path: "/uploads/", Times: times, Status: status})
		if err := client(t).Carry(t.Context(), r.Host+"/app:v1", layer); err != nil {
			t.Errorf("%d: %v %v", status, err, r.Tally())
		}
		if n := r.Tally()["PATCH upload"]; n != 1 {
			t.Errorf("%d: %d chunks: %v", status, n, r.Tally())
		}
	}
}

// When the context ends, open upload sessions are closed.
func TestPutCancelled(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	r.Inject(regtest.Fault{Method: "PUT", Path: "/uploads/", Times: -1, Action: regtest.Stall})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for r.Tally()["PUT upload"] < 4 {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	idx := regtest.RandomIndex(t, 5000, 1, "amd64", "arm64")
	done := make(chan error, 1)
	c := client(t)
	registry.SetLastWord(c, time.Minute) // the test checks that they are closed, not how soon
	go func() { done <- c.Put(ctx, r.Host+"/app:v1", idx) }()
	<-ctx.Done()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := r.Tally()["DELETE upload"]; n != 4 {
		t.Errorf("%d of 4 uploads closed", n)
	}
}
