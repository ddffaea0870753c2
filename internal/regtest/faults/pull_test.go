package faults

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// The requests of a pull, and their number for an index of two images with two layers.
var reads = []struct {
	name, path string
	n          int
}{{"manifest", "/manifests/", 3}, {"blob", "/blobs/", 6}}

// A read that fails, is interrupted, or returns other content, at any request, succeeds on
// another try or ends with exit code 5.
func TestPullFaults(t *testing.T) {
	b := start(t, regtest.Options{})
	const size = 200_000
	if err := b.direct().Put(t.Context(), b.Judge()+"/app:v1", program(t, size)); err != nil {
		t.Fatal(err)
	}
	html := http.Header{"Content-Type": {"text/html"}}
	cases := []struct {
		fault regtest.Fault
		want  outcome
	}{
		{regtest.Fault{Status: 200, Body: "<html>please log in</html>", Header: html, Times: -1}, content},
		{regtest.Fault{Status: 200, Times: -1}, content},
		{regtest.Fault{Phase: regtest.Down, After: 50, Action: regtest.Flip}, content},
		{regtest.Fault{Status: 404, Times: -1}, refusedByRegistry},
		{regtest.Fault{Status: 403, Times: -1}, credentials},
		{regtest.Fault{Status: 416, Times: -1}, refusedByRegistry},
		{regtest.Fault{Status: 503, Times: -1}, refusedByRegistry},
		{regtest.Fault{Status: 206, Body: "xy", Times: -1}, refusedByRegistry},
	}
	for _, status := range []int{500, 502, 503, 504, 408, 429, 499, 522} {
		for _, times := range []int{1, 3} {
			cases = append(cases, struct {
				fault regtest.Fault
				want  outcome
			}{regtest.Fault{Status: status, Times: times}, done})
		}
	}
	for _, action := range []regtest.Action{regtest.Close, regtest.Abort} {
		for _, after := range []int64{0, 1, 100, 64 << 10, size - 1} {
			cases = append(cases, struct {
				fault regtest.Fault
				want  outcome
			}{regtest.Fault{Phase: regtest.Down, After: after, Action: action}, done})
		}
	}
	for i, one := range cases {
		for j, read := range reads {
			for _, nth := range struckAt(read.n, i+j) {
				t.Run(read.name+" "+kase{fault: one.fault}.name(nth), func(t *testing.T) {
					regtest.Repeat(t)
					b.Reset()
					one.fault.Method, one.fault.Path, one.fault.Nth = "GET", read.path, nth
					b.Inject(one.fault)
					c, _ := b.client()
					if _, err := c.Resolve(t.Context(), b.Host+"/app:v1"); err != nil { // so the client has a token
						t.Fatal(err)
					}
					err := pull(t.Context(), c, b.Host+"/app:v1")
					if !one.want.holds(err) {
						t.Errorf("%s %d %s: %v", read.name, nth, kase{fault: one.fault}, err)
					}
					b.checkError(t, err, "app")
				})
			}
		}
	}
}

// Wrong content is not cached: with the same cache, a run without faults reads the right
// content.
func TestNothingWrongIsCached(t *testing.T) {
	b := start(t, regtest.Options{})
	if err := b.direct().Put(t.Context(), b.Judge()+"/app:v1", program(t, 1000)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, read := range reads {
		for nth := 1; nth <= read.n; nth++ {
			b.Reset()
			b.Inject(regtest.Fault{Method: "GET", Path: read.path, Nth: nth, Phase: regtest.Down, After: 40, Action: regtest.Flip})
			for _, wrong := range []bool{true, false} {
				c, _ := b.client()
				c.CacheDir = dir
				err := pull(t.Context(), c, b.Host+"/app:v1")
				if err != nil && (!wrong || !errors.Is(err, manifest.ErrMismatch)) {
					t.Errorf("%s %d: %v", read.name, nth, err)
				}
				b.Reset()
			}
		}
	}
}

// A cache that is a file, or becomes one during the run, only makes the run slower.
func TestBrokenCacheCostsTime(t *testing.T) {
	b := start(t, regtest.Options{})
	if err := b.direct().Put(t.Context(), b.Judge()+"/app:v1", program(t, 1000)); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(dir string) error{
		"a file":         func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"blobs a file":   func(dir string) error { return instead(dir, "blobs/sha256") },
		"records a file": func(dir string) error { return instead(dir, "records") },
		"no place":       func(dir string) error { return instead(dir, "tmp") },
	} {
		dir := filepath.Join(t.TempDir(), "cache")
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c, _ := b.client()
			c.CacheDir = dir
			if err := pull(t.Context(), c, b.Host+"/app:v1"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// instead puts a file where the cache in dir needs a directory.
func instead(dir, sub string) error {
	file := filepath.Join(dir, filepath.FromSlash(sub))
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600))
}

// After concurrent pushes to one tag, the tag is one of the pushed indexes, complete.
func TestManyPushOneTag(t *testing.T) {
	b := start(t, regtest.Options{})
	for round := range 5 {
		repo := fmt.Sprintf("round%d", round)
		all := make([]v1.ImageIndex, 8)
		var pushing sync.WaitGroup
		for i := range all {
			all[i] = program(t, 2000)
			pushing.Go(func() {
				c, _ := b.client()
				if err := push(t.Context(), c, b.Host+"/"+repo, all[i]); err != nil {
					t.Error(err)
				}
			})
		}
		pushing.Wait()
		is, err := b.Verify(repo, "v1")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, idx := range all {
			h, err := idx.Digest()
			if err != nil {
				t.Fatal(err)
			}
			found = found || h == is
		}
		if !found {
			t.Errorf("%s names %s, which nobody pushed", repo, is)
		}
	}
}

// A deleted image below a tag is stored again by the same push, with Verify also a deleted
// blob.
func TestPushHeals(t *testing.T) {
	b := start(t, regtest.Options{})
	idx := program(t, 1000)
	c, _ := b.client()
	if err := push(t.Context(), c, b.Host+"/app", idx); err != nil {
		t.Fatal(err)
	}
	im, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(im.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"manifests/" + im.Manifests[0].Digest.String(), "blobs/" + config.String()} {
		if err := b.Delete("app/" + path); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Verify("app", "v1"); err == nil {
			t.Fatal("the oracle sees nothing")
		}
		c, _ := b.client()
		c.Verify = true
		if err := push(t.Context(), c, b.Host+"/app", idx); err != nil || !b.verifyTag(t, "app", nil, idx) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Tokens that expire after a second, or that the service revokes, cost only requests.
func TestTokensEnd(t *testing.T) {
	b := start(t, regtest.Options{TokenLife: time.Second})
	const pushes = 20
	all := func(name string) (fine int) {
		for i := range pushes {
			repo, idx := fmt.Sprintf("%s%d", name, i), program(t, 300_000)
			c, _ := b.client()
			err := push(t.Context(), c, b.Host+"/"+repo, idx)
			if err != nil {
				if !errors.Is(err, registry.ErrCredentials) {
					t.Error(err)
				}
				continue
			}
			b.verifyTag(t, repo, nil, idx)
			fine++
		}
		return fine
	}
	if n := all("short"); n != pushes {
		t.Errorf("%d of %d pushes with tokens that live a second", n, pushes)
	}
	stop := make(chan struct{})
	var forgetting sync.WaitGroup
	forgetting.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond):
				b.Revoke()
			}
		}
	})
	n := all("forgotten")
	close(stop)
	forgetting.Wait()
	if n < pushes/2 { // a token may be revoked before its first use
		t.Errorf("%d of %d pushes to a server that forgets", n, pushes)
	}
}
