package registry_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A registry mirror with a path has the repositories of the host below that path. Each
// request to the mirror names the host; requests to the host do not.
func TestMirrorBelowAPath(t *testing.T) {
	t.Parallel()
	origin := regtest.Start(t, regtest.Options{})
	mirror := regtest.Start(t, regtest.Options{User: "me", Password: "secret", Bearer: true})
	idx := regtest.RandomIndex(t, 5000, 1, "amd64", "arm64")
	put(t, client(t), origin.Host+"/team/app:v1", idx)
	for _, path := range []string{"", "/proxy-cache", "/group/dependency_proxy/containers"} {
		t.Run("path "+path, func(t *testing.T) {
			c := client(t)
			c.Keychain = login{"me", "secret"}
			put(t, c, mirror.Host+path+"/team/app:v1", idx)
			origin.Reset()
			mirror.Reset()
			c = client(t)
			c.Keychain = login{"me", "secret"}
			c.Hosts = map[string]registry.Host{origin.Host: {Mirrors: []string{mirror.Host + path}}}

			_ = must(c.Resolve(t.Context(), origin.Host+"/team/app:v1"))(t)
			content := must(c.Get(t.Context(), origin.Host+"/team/app:v1"))(t).(v1.ImageIndex)
			for _, d := range must(content.IndexManifest())(t).Manifests {
				img := must(content.Image(d.Digest))(t)
				_ = must(img.RawConfigFile())(t)
				for _, l := range must(img.Layers())(t) {
					if err := must(l.Compressed())(t).Close(); err != nil {
						t.Error(err)
					}
				}
			}
			if tags := must(c.Tags(t.Context(), origin.Host+"/team/app"))(t); !slices.Equal(tags, []string{"v1"}) {
				t.Errorf("tags %q", tags)
			}
			expect(t, origin, map[string]int{})
			below := strings.TrimPrefix(path+"/team/app/", "/")
			for _, req := range mirror.Requests() {
				if req.Kind() == "GET token" {
					if want := "repository:" + strings.TrimSuffix(below, "/") + ":pull"; !slices.Equal(req.Scopes, []string{want}) {
						t.Errorf("a token for %q, want %s", req.Scopes, want)
					}
					continue
				}
				if !strings.HasPrefix(req.Path, "/v2/"+below) || req.Query.Get("ns") != origin.Host {
					t.Errorf("asked %s %s, ns %q", req.Method, req.Path, req.Query.Get("ns"))
				}
			}
			if n := mirror.Total(); n < 8 {
				t.Errorf("%d requests", n)
			}

			put(t, c, origin.Host+"/team/new:v1", must(content.Image(must(content.IndexManifest())(t).Manifests[0].Digest))(t))
			for _, req := range origin.Requests() {
				if req.Query.Has("ns") {
					t.Errorf("%s of the host itself has ns", req.Kind())
				}
			}
		})
	}
}

// An invalid mirror is refused before any request.
func TestMirrorsThatAreNone(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, mirror := range []string{"https://a.b", "a.b/../c", "a.b/", "me@a.b/c", "a.b/c?d=e", "a.b/c#d", "", "/c", "a.b//c", "a.b/./c", "a.b:70000", "a.b:0/c"} {
		c := client(t)
		c.Hosts = map[string]registry.Host{r.Host: {Mirrors: []string{mirror}}}
		_, err := c.Get(t.Context(), r.Host+"/app:v1")
		if bad := (*name.ErrBadName)(nil); !errors.As(err, &bad) {
			t.Errorf("%q: %v", mirror, err)
		}
	}
	expect(t, r, map[string]int{})
}

// Whatever is read is verified where it is read: a mirror with invalid content is asked
// once and not again, and a mirror that lacks something is asked once for it.
func TestMirrorIsExcludedWhereverItLies(t *testing.T) {
	t.Parallel()
	origin, without, mirror := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 5000, 1)
	put(t, client(t), origin.Host+"/app:v1", img)
	put(t, client(t), mirror.Host+"/app:v1", img)
	byDigest := origin.Host + "/app@" + digestOf(t, img).String()
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	other := http.Header{"Content-Type": {mediaType}, "Content-Length": {"7"}, "Docker-Content-Digest": {"sha256:" + strings.Repeat("0", 64)}}
	for name, test := range map[string]struct {
		fault regtest.Fault
		read  func(*registry.Client) error
		asked string
	}{
		"a page of tags": {
			regtest.Fault{Method: "GET", Path: "/tags/list", Status: http.StatusOK, Body: "<html>", Times: -1},
			func(c *registry.Client) error {
				tags, err := c.Tags(t.Context(), origin.Host+"/app")
				if err == nil && !slices.Equal(tags, []string{"v1"}) {
					err = errors.New("other tags")
				}
				return err
			},
			"GET tags",
		},
		"a HEAD": {
			regtest.Fault{Method: "HEAD", Path: "/manifests/", Status: http.StatusOK, Header: other, Times: -1},
			func(c *registry.Client) error {
				_, err := c.Resolve(t.Context(), byDigest)
				return err
			},
			"HEAD manifest",
		},
		"a manifest without end": {
			regtest.Fault{Method: "GET", Path: "/manifests/", Status: http.StatusOK, Header: http.Header{"Content-Type": {mediaType}}, Body: strings.Repeat(" ", 5<<20), Times: -1},
			func(c *registry.Client) error {
				_, err := c.Get(t.Context(), byDigest)
				return err
			},
			"GET manifest",
		},
	} {
		t.Run(name, func(t *testing.T) {
			origin.Reset()
			without.Reset()
			mirror.Reset()
			mirror.Inject(test.fault)
			c := client(t)
			c.Hosts = map[string]registry.Host{origin.Host: {Mirrors: []string{without.Host, mirror.Host}}}
			for range 2 {
				if err := test.read(c); err != nil {
					t.Fatal(err)
				}
			}
			if n := mirror.Tally()[test.asked]; n != 1 || mirror.Total() != 1 {
				t.Errorf("the mirror that lies got %v", mirror.Tally())
			}
			if n := without.Tally()[test.asked]; n != 2 {
				t.Errorf("the mirror without the image got %v", without.Tally())
			}
		})
	}
}
