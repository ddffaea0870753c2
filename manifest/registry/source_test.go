package registry_test

import (
	"errors"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// We read what go-containerregistry pushes, unchanged.
func TestGetOfTheirs(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 70_000, 3, "amd64", "arm64")
	if err := remote.WriteIndex(must(name.ParseReference(r.Judge()+"/theirs:1"))(t), idx); err != nil {
		t.Fatal(err)
	}
	content := must(client(t).Get(t.Context(), r.Host+"/theirs:1"))(t)
	expect(t, r, map[string]int{"GET manifest": 1})
	if digestOf(t, content) != digestOf(t, idx) {
		t.Error("another digest")
	}
	if err := validate.Index(content.(v1.ImageIndex)); err != nil {
		t.Error(err)
	}
}

// With a cache a tag costs a HEAD and a digest nothing.
func TestGetCached(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 500, 1, "amd64")
	put(t, client(t), r.Host+"/app:v1", idx)
	dir := t.TempDir()
	get := func(ref string) {
		r.Reset()
		c := client(t)
		c.CacheDir = dir
		content := must(c.Get(t.Context(), ref))(t)
		img := must(content.(v1.ImageIndex).Image(must(idx.IndexManifest())(t).Manifests[0].Digest))(t)
		must(img.RawConfigFile())(t)
	}
	get(r.Host + "/app:v1")
	expect(t, r, map[string]int{"GET manifest": 2, "GET blob": 1})
	get(r.Host + "/app:v1")
	expect(t, r, map[string]int{"HEAD manifest": 1})
	get(by(r, "app", digestOf(t, idx)))
	expect(t, r, map[string]int{})

	next := regtest.RandomIndex(t, 500, 1, "arm64")
	put(t, client(t), r.Host+"/app:v1", next)
	c := client(t)
	c.CacheDir = dir
	if got := must(c.Get(t.Context(), r.Host+"/app:v1"))(t); digestOf(t, got) != digestOf(t, next) {
		t.Error("the cache hid that the tag moved")
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	r.Reset()
	d := must(client(t).Resolve(t.Context(), r.Host+"/app:v1"))(t)
	if want := must(manifest.Describe(img))(t); d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
		t.Errorf("got %v, want %v", d, want)
	}
	expect(t, r, map[string]int{"HEAD manifest": 1})

	_, err := client(t).Resolve(t.Context(), r.Host+"/app:v2")
	if !errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	for _, status := range []int{403, 500, 401} {
		r.Reset()
		r.Inject(regtest.Fault{Method: "HEAD", Times: -1, Status: status})
		_, err = client(t).Resolve(t.Context(), r.Host+"/app:v1")
		if errors.Is(err, manifest.ErrNotFound) || errors.Is(err, registry.ErrCredentials) != (status < 500) {
			t.Errorf("%d: got %v", status, err)
		}
	}
	for _, fault := range []regtest.Fault{{Status: 405}, {Status: 200}, {Status: 501}} {
		r.Reset()
		fault.Method, fault.Times = "HEAD", -1
		r.Inject(fault)
		if d, err := client(t).Resolve(t.Context(), r.Host+"/app:v1"); err != nil || d.Digest != digestOf(t, img) {
			t.Errorf("HEAD answered %d: %v, %v", fault.Status, d, err)
		}
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	c := client(t)
	for _, tag := range []string{"a", "b", "c"} {
		put(t, c, r.Host+"/app:"+tag, img)
	}
	tags := must(client(t).Tags(t.Context(), r.Host+"/app"))(t)
	if len(tags) != 3 || tags[0] != "a" {
		t.Error(tags)
	}
	if _, err := c.Tags(t.Context(), r.Host+"/none"); !errors.Is(err, manifest.ErrNotFound) {
		t.Error(err)
	}
}
