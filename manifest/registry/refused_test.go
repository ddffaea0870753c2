package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// refusals are the statuses that refuse a HEAD or a GET without saying whether the content
// exists.
var refusals = []int{400, 402, 403, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 418, 421, 422, 428, 431, 451, 501, 505}

// If the target refuses HEADs, everything is sent, also content that the cache has from
// elsewhere. A GET finds existing content if the registry allows it.
func TestTargetThatDoesNotSay(t *testing.T) {
	t.Parallel()
	source, target := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 300, 1, "amd64", "arm64")
	put(t, client(t), source.Host+"/app:v1", idx)
	cache := t.TempDir()
	for _, status := range refusals {
		for what, faults := range map[string][]regtest.Fault{
			"HEAD of manifests":         {{Method: "HEAD", Path: "/manifests/"}},
			"HEAD and GET of manifests": {{Method: "HEAD", Path: "/manifests/"}, {Method: "GET", Path: "/manifests/"}},
			"HEAD of blobs":             {{Method: "HEAD", Path: "/blobs/sha256"}},
			"HEAD":                      {{Method: "HEAD"}},
		} {
			repo := fmt.Sprintf("app%d-%d", status, len(what))
			t.Run(fmt.Sprintf("%s %d", what, status), func(t *testing.T) {
				target.Reset()
				for _, f := range faults {
					f.Status, f.Times = status, -1
					target.Inject(f)
				}
				c := client(t)
				c.CacheDir = cache
				content := must(c.Get(t.Context(), source.Host+"/app:v1"))(t)
				for _, d := range must(idx.IndexManifest())(t).Manifests { // so that the cache has them
					_ = must(c.Get(t.Context(), by(source, "app", d.Digest)))(t)
				}
				put(t, c, target.Host+"/"+repo+":v1", content)
				verifyTag(t, target, repo+":v1", idx)

				before := target.Tally()["PUT manifest"]
				if before != 3 {
					t.Errorf("%d manifests were sent", before)
				}
				put(t, client(t), target.Host+"/"+repo+":v1", idx)
				again := target.Tally()["PUT manifest"] - before
				if silent := len(faults) == 2; silent != (again == 3) || !silent && again != 0 {
					t.Errorf("%d manifests were sent again", again)
				}
				_, release, err := client(t).Prepare(t.Context(), target.Host+"/"+repo+":v2")
				if err != nil {
					t.Error(err)
				}
				release()
			})
		}
	}
}

// An image that was deleted below a tag is sent again to a target that refuses HEAD, even
// if the cache has it.
func TestCacheSaysNothingOfATarget(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 300, 1, "amd64", "arm64")
	c := client(t)
	c.CacheDir = t.TempDir()
	put(t, c, r.Host+"/app:v1", idx)
	children := must(idx.IndexManifest())(t).Manifests
	for _, d := range children {
		_ = must(c.Get(t.Context(), by(r, "app", d.Digest)))(t)
	}
	for i, status := range []int{405, 501, 400} {
		if err := remote.Delete(must(name.NewDigest(r.Judge() + "/app@" + children[i%2].Digest.String()))(t)); err != nil {
			t.Fatal(err)
		}
		r.Reset()
		r.Inject(regtest.Fault{Method: "HEAD", Path: "/manifests/", Status: status, Times: -1})
		again := client(t)
		again.CacheDir = c.CacheDir
		if _, err := again.Resolve(t.Context(), by(r, "app", children[i%2].Digest)); !errors.Is(err, manifest.ErrNotFound) {
			t.Errorf("%d: the cache answered for the registry: %v", status, err)
		}
		put(t, again, r.Host+"/app:v1", idx)
		verifyTag(t, r, "app:v1", idx)
	}
}

// A refusal does not mean that something is missing. Only 401 and 403 mean that credentials
// are.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, status := range append([]int{401, 404, 408, 429, 500}, refusals...) {
		r.Reset()
		r.Inject(regtest.Fault{Path: "/manifests/", Status: status, Times: -1})
		d, err := client(t).Resolve(t.Context(), r.Host+"/app:v1")
		want := status != 401 && status != 404 && status != 408 && status != 429 && status != 500
		if d.Digest != (v1.Hash{}) || errors.Is(err, manifest.ErrUnanswered) != want ||
			errors.Is(err, manifest.ErrNotFound) != (status == 404) || errors.Is(err, registry.ErrCredentials) != (status == 401 || status == 403) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// If the HEAD of a blob is redirected to a URL that is signed only for GET, the run does
// not wait: the blob is sent.
func TestHeadOfABlobIsRedirected(t *testing.T) {
	t.Parallel()
	r, evil := regtest.Start(t, regtest.Options{}), regtest.StartEvil(t)
	evil.Answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
	r.Inject(regtest.Fault{Method: "HEAD", Path: "/blobs/", Status: 307, Times: -1, Header: http.Header{"Location": {evil.URL}}})
	n := &naps{}
	c := &registry.Client{Keychain: login{}, Sleep: n.sleep}
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, c, r.Host+"/app:v1", img)
	verifyTag(t, r, "app:v1", img)
	if len(n.took) > 0 || len(evil.Seen()) == 0 {
		t.Errorf("waited %v, %d requests elsewhere", n.took, len(evil.Seen()))
	}
}
