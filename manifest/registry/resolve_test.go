package registry_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// An image that is copied, resolved at both sides first, costs one HEAD of the tag
// at each side and one GET; when it is there already, the two HEADs alone.
func TestResolvedOnce(t *testing.T) {
	t.Parallel()
	from, to := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	src, dst := from.Host+"/app:v1", to.Host+"/copy/app:v1"
	img := regtest.Image(t, "amd64", 500, 2)
	put(t, client(t), src, img)
	from.Reset()

	c := client(t)
	d := must(c.Resolve(t.Context(), src))(t)
	for range 2 {
		if _, err := c.Resolve(t.Context(), dst); !errors.Is(err, manifest.ErrNotFound) {
			t.Fatalf("got %v", err)
		}
	}
	put(t, c, dst, must(c.Get(t.Context(), src))(t))
	expect(t, from, map[string]int{"HEAD manifest": 1, "GET manifest": 1, "GET blob": 3})
	expect(t, to, map[string]int{"HEAD manifest": 1, "HEAD blob": 3, "POST upload": 3, "PUT upload": 3, "PUT manifest": 1})
	verifyTag(t, to, "copy/app:v1", img)

	if now := must(c.Resolve(t.Context(), dst))(t); now.Digest != d.Digest {
		t.Errorf("Put did not move what is remembered: %v", now)
	}
	from.Reset()
	to.Reset()
	c = client(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if a, b := resolve(t, c, src), resolve(t, c, dst); a != b {
				t.Errorf("%s against %s", a, b)
			}
		})
	}
	all.Wait()
	put(t, c, dst, img)
	expect(t, from, map[string]int{"HEAD manifest": 1})
	expect(t, to, map[string]int{"HEAD manifest": 1})
}

func resolve(t *testing.T, c *registry.Client, ref string) string {
	t.Helper()
	d, err := c.Resolve(t.Context(), ref)
	if err != nil {
		t.Error(err)
	}
	return d.Digest.String()
}

// A run reads the digest that it resolved even if the tag changes. If that content no
// longer exists, it reads what the tag names now. A cached digest costs nothing.
func TestResolvedThenRead(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	ref := r.Host + "/app:v1"
	before, after := regtest.Image(t, "amd64", 100, 1), regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), ref, before)
	dir := t.TempDir()
	c := client(t)
	c.CacheDir = dir
	must(c.Resolve(t.Context(), ref))(t)
	put(t, client(t), ref, after)
	r.Reset()
	for range 2 {
		if got := must(c.Get(t.Context(), ref))(t); digestOf(t, got) != digestOf(t, before) {
			t.Error("the run saw two images under one tag")
		}
	}
	expect(t, r, map[string]int{"GET manifest": 1})

	c = client(t)
	must(c.Resolve(t.Context(), ref))(t)
	put(t, client(t), ref, before)
	if err := remote.Delete(must(name.NewDigest(r.Judge() + "/app@" + digestOf(t, after).String()))(t)); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	if got := must(c.Get(t.Context(), ref))(t); digestOf(t, got) != digestOf(t, before) {
		t.Error("got what is gone")
	}
	expect(t, r, map[string]int{"GET manifest": 2})
}

// A tag that was resolved at a mirror is not assumed at the registry: the target is
// requested.
func TestMirrorsWordIsNotRemembered(t *testing.T) {
	t.Parallel()
	r, mirror := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), mirror.Host+"/app:v1", img)
	mirror.Reset()
	c := client(t)
	c.Hosts = map[string]registry.Host{r.Host: {Mirrors: []string{mirror.Host}}}
	must(c.Resolve(t.Context(), r.Host+"/app:v1"))(t)
	put(t, c, r.Host+"/app:v1", img)
	expect(t, mirror, map[string]int{"HEAD manifest": 1})
	verifyTag(t, r, "app:v1", img)
}

// A tag whose PUT failed is requested again: it may have changed.
func TestForgottenAfterFailure(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	ref := r.Host + "/app:v1"
	before, after := regtest.Image(t, "amd64", 100, 1), regtest.Image(t, "amd64", 100, 1)
	c := client(t)
	put(t, c, ref, before)
	r.Inject(
		regtest.Fault{Method: "PUT", Path: "/manifests/", Phase: regtest.Answer, Status: 400, Times: -1},
		regtest.Fault{Method: "HEAD", Path: "/manifests/", Status: 400, Times: -1},
	)
	if err := c.Put(t.Context(), ref, after); err == nil {
		t.Fatal("no error")
	}
	r.Reset()
	put(t, c, ref, before)
	verifyTag(t, r, "app:v1", before)
}

// What a Get did not find is not asked for again by a Put to the same tag.
func TestAbsenceIsRemembered(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	ref := r.Host + "/app:v1"
	c := client(t)
	if _, err := c.Get(t.Context(), ref); !errors.Is(err, manifest.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, c, ref, img)
	expect(t, r, map[string]int{"GET manifest": 1, "HEAD blob": 2, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1})
	if got := must(c.Get(t.Context(), ref))(t); digestOf(t, got) != digestOf(t, img) {
		t.Error("the tag is not read after the Put")
	}
}
