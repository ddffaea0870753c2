package faults

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/local"
)

// forms are the ways to write the address of the evil listener, or an address that no
// registry may name, instead of 127.0.0.1 with its port.
var forms = []struct {
	name, host string // without port: ours
	tls        bool   // the registry uses TLS and redirects to plain http
	asks       bool   // may need a name server, so a short timeout is enough
	followed   bool   // a HEAD follows it without credentials; the answer says nothing
}{
	{name: "other port", host: "127.0.0.1", followed: true},
	{name: "other host, which resolves to loopback", host: "localhost", followed: true},
	{name: "https to http", host: "127.0.0.1", tls: true},
	{name: "decimal", host: "2130706433"},
	{name: "hexadecimal", host: "0x7f000001", asks: true},
	{name: "octal", host: "0177.0.0.1"},
	{name: "short", host: "127.1"},
	{name: "IPv6", host: "[::ffff:127.0.0.1]", followed: true},
	{name: "any address", host: "0.0.0.0", followed: true},
	{name: "with a user", host: "127.0.0.1@localhost", followed: true},
	{name: "metadata", host: "169.254.169.254:80"},
	{name: "metadata in IPv6", host: "[::ffff:169.254.169.254]:80"},
}

// leads are the ways in which a registry can send a client elsewhere, as faults for each
// request.
var leads = []struct {
	name    string
	method  string
	path    string
	status  int
	chunked bool
	header  string // with %s in place of the URL
}{
	{"realm at HEAD tag", "HEAD", "/manifests/v1", 401, false, `Www-Authenticate: Bearer realm="%s",service="x"`},
	{"realm at POST", "POST", "/uploads/", 401, false, `Www-Authenticate: Bearer realm="%s",service="x"`},
	{"realm at PUT blob", "PUT", "/uploads/", 401, false, `Www-Authenticate: Bearer realm="%s",service="x"`},
	{"realm at PUT tag", "PUT", "/manifests/v1", 401, false, `Www-Authenticate: Bearer realm="%s",service="x"`},
	{"redirect of HEAD tag", "HEAD", "/manifests/v1", 302, false, "Location: %s"},
	{"redirect of HEAD blob", "HEAD", "/blobs/sha256", 301, false, "Location: %s"},
	{"redirect of POST", "POST", "/uploads/", 307, false, "Location: %s"},
	{"redirect of PUT blob", "PUT", "/uploads/", 308, false, "Location: %s"},
	{"redirect of PATCH", "PATCH", "/uploads/", 307, true, "Location: %s"},
	{"redirect of PUT child", "PUT", "/manifests/sha256", 307, false, "Location: %s"},
	{"redirect of PUT tag", "PUT", "/manifests/v1", 307, false, "Location: %s"},
	{"redirect of the token", "GET", "^/token", 307, false, "Location: %s"},
	{"Location of POST", "POST", "/uploads/", 202, false, "Location: %s"},
	{"Location of PATCH", "PATCH", "/uploads/", 202, true, "Location: %s"},
}

// A host to which a registry redirects never gets credentials, whenever and in whatever
// form the redirect comes. The tag is complete or unchanged.
func TestEvil(t *testing.T) {
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{TLS: form.tls})
			evil := regtest.StartEvil(t)
			u, err := url.Parse(evil.URL)
			if err != nil {
				t.Fatal(err)
			}
			address := "http://" + form.host
			if !strings.HasSuffix(form.host, ":80") {
				address += ":" + u.Port()
			}
			for _, lead := range leads {
				key, value, _ := strings.Cut(fmt.Sprintf(lead.header, address+"/v2/evil"), ": ")
				k := kase{want: refusedByRegistry, cut: true, new: true, fault: regtest.Fault{
					Method: lead.method, Path: lead.path, Status: lead.status, Times: -1, Header: http.Header{key: {value}},
				}}
				switch {
				case strings.HasPrefix(lead.name, "realm"):
					k.want = credentials
				case lead.name == "redirect of HEAD tag" && form.followed:
					k.want = done
				}
				if lead.chunked {
					k.first = chunked
				}
				if form.host == "127.0.0.1" && !form.tls && strings.HasPrefix(lead.name, "realm") {
					continue // another port of the same host belongs to the host
				}
				b.moments(t, k, func(t *testing.T, nth int) {
					if nth == 1 || !form.asks {
						b.strike(t, k, nth)
					}
				})
				if evil.Authorized() {
					t.Fatalf("%s: credentials went to %s", lead.name, address)
				}
			}
			if n := len(evil.Seen()); form.host == "localhost" && n == 0 || form.tls && n > 0 || strings.HasSuffix(form.host, ":80") && n > 0 {
				t.Errorf("the evil listener was asked %d times", n)
			}
		})
	}
}

// chunked makes a registry refuse blobs in one request.
var chunked = []regtest.Fault{{Method: "PUT", Path: "/uploads/", Status: http.StatusRequestEntityTooLarge}}

// The URLs of a foreign layer are never requested, neither in a push nor in a pull. In a
// pull, the registry must have the layer.
func TestForeignLayers(t *testing.T) {
	b := start(t, regtest.Options{})
	evil := regtest.StartEvil(t)
	foreign, err := mutate.Append(regtest.Image(t, "amd64", 300, 1), mutate.Addendum{
		Layer: must(regtest.Image(t, "amd64", 300, 1).Layers())(t)[0], MediaType: types.DockerForeignLayer, URLs: []string{evil.URL + "/layer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	idx := regtest.Index(t, map[string]v1.Image{"amd64": foreign}, "amd64")
	for range 2 {
		c, _ := b.client()
		if err := push(t.Context(), c, b.Host+"/foreign", idx); err != nil {
			t.Fatal(err)
		}
		c, _ = b.client()
		if err := pull(t.Context(), c, b.Host+"/foreign:v1"); !refusedByRegistry.holds(err) {
			t.Errorf("got %v", err)
		}
	}
	if n := len(evil.Seen()); n != 0 {
		t.Errorf("the evil listener was asked %d times", n)
	}
}

// A nondistributable layer without URLs is copied with its image, since it could not be
// found otherwise.
func TestForeignLayersFromNowhere(t *testing.T) {
	b := start(t, regtest.Options{})
	img, err := mutate.Append(regtest.Image(t, "amd64", 300, 1), mutate.Addendum{
		Layer: must(regtest.Image(t, "amd64", 300, 2).Layers())(t)[0], MediaType: types.OCIRestrictedLayer,
	})
	if err != nil {
		t.Fatal(err)
	}
	idx := regtest.Index(t, map[string]v1.Image{"amd64": img}, "amd64")
	layouts := []local.Store{local.Layout(t.TempDir() + "/a"), local.Layout(t.TempDir() + "/b")}
	c, _ := b.client()
	if err := layouts[0].Put(t.Context(), "foreign:v1", idx); err != nil {
		t.Fatal(err)
	}
	content, err := layouts[0].Get(t.Context(), "foreign:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Put(t.Context(), b.Host+"/foreign:v1", content); err != nil {
		t.Fatal(err)
	}
	c, _ = b.client()
	if err := pull(t.Context(), c, b.Host+"/foreign:v1"); err != nil {
		t.Error(err)
	}
	if content, err = c.Get(t.Context(), b.Host+"/foreign:v1"); err != nil {
		t.Fatal(err)
	}
	if err := layouts[1].Put(t.Context(), "foreign:v1", content); err != nil {
		t.Error(err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
