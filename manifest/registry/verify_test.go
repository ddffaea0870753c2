package registry_test

import (
	"io"
	"net/http"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// With Verify, a deleted blob below an existing tag is stored again. The manifests above it
// do not change.
func TestVerifyHealsBlobs(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]manifest.Content{
		"index": regtest.RandomIndex(t, 500, 1, "amd64", "arm64"), "image": regtest.Image(t, "amd64", 500, 2),
	} {
		t.Run(name, func(t *testing.T) {
			r := regtest.Start(t, regtest.Options{})
			ref := r.Host + "/app:v1"
			put(t, client(t), ref, content)
			img, ok := content.(v1.Image)
			blobs := int64(3)
			if idx, isIndex := content.(v1.ImageIndex); !ok && isIndex {
				img = must(idx.Image(must(idx.IndexManifest())(t).Manifests[1].Digest))(t)
				blobs = 4
			}
			for _, gone := range []v1.Hash{must(img.ConfigName())(t), must(must(img.Layers())(t)[0].Digest())(t)} {
				if err := r.Delete("app/blobs/" + gone.String()); err != nil {
					t.Fatal(err)
				}
			}
			r.Reset()
			put(t, client(t), ref, content)
			if n := r.Tally()["HEAD blob"]; n != 0 {
				t.Errorf("looked at %d blobs unasked", n)
			}
			r.Reset()
			c := client(t)
			c.Verify = true
			put(t, c, ref, content)
			verifyTag(t, r, "app:v1", content)
			if got := r.Tally(); got["PUT upload"] != 2 || got["PUT manifest"] != 0 || int64(got["HEAD blob"]) != blobs {
				t.Errorf("requests %v", got)
			}
		})
	}
}

// With Verify, an image without content is read in the target.
func TestVerifyReadsInPlace(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 500, 2)
	put(t, client(t), by(r, "app", digestOf(t, img)), img)
	d := must(manifest.Describe(img))(t)
	d.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	idx := must(manifest.Index([]manifest.Child{{Descriptor: d}}, nil))(t)
	r.Reset()
	c := client(t)
	c.Verify = true
	put(t, c, r.Host+"/app:v1", idx)
	expect(t, r, map[string]int{"HEAD manifest": 2, "GET manifest": 1, "HEAD blob": 3, "PUT manifest": 1})
	verifyTag(t, r, "app:v1", idx)
}

// A mirror that returns wrong content, for a manifest, a config or a layer, is excluded.
// The next source is read, and a blob for another registry is sent again.
func TestMirrorLies(t *testing.T) {
	t.Parallel()
	origin, mirror, target := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 50_000, 1)
	put(t, client(t), origin.Host+"/app:v1", img)
	put(t, client(t), mirror.Host+"/app:v1", img)
	page := regtest.Fault{Status: http.StatusOK, Body: "<html>please log in</html>", Header: http.Header{"Content-Type": {"text/html"}}}
	flip := regtest.Fault{Phase: regtest.Down, After: 100, Action: regtest.Flip}
	config, layer := must(img.ConfigName())(t).Hex, must(must(img.Layers())(t)[0].Digest())(t).Hex
	for what, path := range map[string]string{"manifest": "/manifests/", "config": config, "layer": layer} {
		for _, fault := range []regtest.Fault{page, flip} {
			mirror.Reset()
			fault.Method, fault.Path, fault.Times = "GET", path, -1
			mirror.Inject(fault)
			c := client(t)
			c.Hosts = map[string]registry.Host{origin.Host: {Mirrors: []string{mirror.Host}}}
			content, err := c.Get(t.Context(), origin.Host+"/app:v1")
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			put(t, c, target.Host+"/copy:"+what, content)
			if n := mirror.Tally(); n["GET manifest"]+n["GET blob"] == 0 {
				t.Errorf("%s: the mirror was not asked", what)
			}
			// a new reader gets the right content on a second try
			c = client(t)
			c.Hosts = map[string]registry.Host{origin.Host: {Mirrors: []string{mirror.Host}}}
			again := must(c.Get(t.Context(), origin.Host+"/app:v1"))(t).(v1.Image)
			must(again.RawConfigFile())(t)
			read := func() error {
				rc, err := must(again.Layers())(t)[0].Compressed()
				if err != nil {
					return err
				}
				defer rc.Close()
				_, err = io.Copy(io.Discard, rc)
				return err
			}
			if err := read(); err != nil && read() != nil {
				t.Errorf("%s: %v", what, err)
			}
			if err := target.Delete("copy/manifests/" + digestOf(t, img).String()); err != nil {
				t.Fatal(err)
			}
			for _, h := range []string{config, layer} {
				if err := target.Delete("copy/blobs/sha256:" + h); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
