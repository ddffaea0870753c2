package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

const (
	anyHex   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	anyImage = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + anyHex + `","size":7}`
	anyBlob  = `{"mediaType":"application/octet-stream","digest":"sha256:` + anyHex + `","size":7}`
	imageOf  = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`
	indexOf  = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",`
	ociImage = "application/vnd.oci.image.manifest.v1+json"
	ociIndex = "application/vnd.oci.image.index.v1+json"
	docImage = "application/vnd.docker.distribution.manifest.v2+json"
	docIndex = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Manifests that a registry may send for a tag. Those marked fine are read; all others are
// invalid content (exit code 5), except those marked old, an obsolete type.
var manifests = []struct {
	what, header, raw string
	fine, old         bool
}{
	{what: "an index", header: ociIndex, raw: indexOf + `"manifests":[` + anyImage + `]}`, fine: true},
	{what: "an index without children", header: ociIndex, raw: indexOf + `"manifests":[]}`, fine: true},
	{what: "an index that does not say so", header: ociIndex, raw: `{"schemaVersion":2,"manifests":[]}`, fine: true},
	{what: "an index that nobody says is one", raw: `{"schemaVersion":2,"manifests":[]}`, header: "-", fine: true},
	{what: "a Docker list", header: docIndex, raw: `{"schemaVersion":2,"manifests":[` + anyImage + `]}`, fine: true},
	{what: "an image", header: ociImage, raw: imageOf + `"config":` + anyBlob + `,"layers":[]}`, fine: true},
	{what: "a Docker image", header: docImage, raw: `{"schemaVersion":2,"config":` + anyBlob + `,"layers":[` + anyBlob + `]}`, fine: true},
	{what: "a charset", header: ociImage + "; charset=utf-8", raw: imageOf + `"config":` + anyBlob + `,"layers":[]}`, fine: true},
	{what: "unknown fields", header: ociIndex, raw: indexOf + `"manifests":[],"future":{"a":[1]}}`, fine: true},
	{what: "a child twice", header: ociIndex, raw: indexOf + `"manifests":[` + anyImage + "," + anyImage + `]}`, fine: true},
	{what: "nothing", header: ociImage, raw: ""},
	{what: "a space", header: ociImage, raw: " "},
	{what: "null", header: ociImage, raw: "null"},
	{what: "a list", header: ociImage, raw: "[]"},
	{what: "a number", header: ociImage, raw: "1"},
	{what: "a string", header: ociImage, raw: `"x"`},
	{what: "an empty object", header: ociImage, raw: "{}"},
	{what: "HTML", header: "text/html", raw: "<html></html>"},
	{what: "HTML that says it is an image", header: ociImage, raw: "<html></html>"},
	{what: "cut", header: ociImage, raw: imageOf + `"config":`},
	{what: "two documents", header: ociIndex, raw: indexOf + `"manifests":[]}` + indexOf + `"manifests":[]}`},
	{what: "something behind", header: ociIndex, raw: indexOf + `"manifests":[]} x`},
	{what: "NUL", header: ociIndex, raw: "\x00"},
	{what: "a byte order mark", header: ociIndex, raw: "\ufeff" + indexOf + `"manifests":[]}`},
	{what: "UTF-16", header: ociIndex, raw: "\xff\xfe{\x00}\x00"},
	{what: "image and index", header: ociImage, raw: `{"schemaVersion":2,"config":` + anyBlob + `,"layers":[],"manifests":[]}`},
	{what: "index and image", header: ociIndex, raw: `{"schemaVersion":2,"config":` + anyBlob + `,"layers":[],"manifests":[]}`},
	{what: "index and layers", header: ociIndex, raw: indexOf + `"manifests":[],"layers":[]}`},
	{what: "index and config", header: ociIndex, raw: indexOf + `"manifests":[],"config":{}}`},
	{what: "index in capitals and image", header: ociImage, raw: imageOf + `"config":` + anyBlob + `,"layers":[],"MANIFESTS":[]}`},
	{what: "index and image in capitals", header: ociIndex, raw: indexOf + `"manifests":[],"Layers":[]}`},
	{what: "image and schema 1", header: ociImage, raw: imageOf + `"config":` + anyBlob + `,"layers":[],"fsLayers":[]}`},
	{what: "schema 1", header: "application/vnd.docker.distribution.manifest.v1+json", raw: `{"schemaVersion":1,"fsLayers":[]}`, old: true},
	{what: "signed schema 1", header: "application/vnd.docker.distribution.manifest.v1+prettyjws", raw: `{"schemaVersion":1,"fsLayers":[],"signatures":[]}`, old: true},
	{what: "schema 1 as an image", header: ociImage, raw: `{"schemaVersion":1,"config":{},"layers":[]}`, old: true},
	{what: "an image as index", header: ociIndex, raw: `{"schemaVersion":2,"config":` + anyBlob + `,"layers":[]}`},
	{what: "an index as image", header: ociImage, raw: `{"schemaVersion":2,"manifests":[]}`},
	{what: "header against document", header: ociIndex, raw: imageOf + `"manifests":[]}`},
	{what: "document against header", header: ociImage, raw: indexOf + `"config":{},"layers":[]}`},
	{what: "Docker against OCI", header: docImage, raw: imageOf + `"config":` + anyBlob + `,"layers":[]}`},
	{what: "a foreign type", header: "text/html", raw: `{"schemaVersion":2,"manifests":[]}`},
	{what: "a type with control characters", header: ociImage, raw: `{"mediaType":"a\r\n\u001b[31m","config":{},"layers":[]}`},
	{what: "an embedded foreign type", header: "-", raw: `{"mediaType":"text/html","config":{},"layers":[]}`},
	{what: "the type is a number", header: ociImage, raw: `{"mediaType":1,"config":{},"layers":[]}`},
	{what: "neither kind", header: ociImage, raw: imageOf + `"annotations":{}}`},
	{what: "manifests null", header: ociIndex, raw: indexOf + `"manifests":null,"x":1}`, fine: true},
	{what: "manifests a string", header: ociIndex, raw: indexOf + `"manifests":"x"}`},
	{what: "manifests an object", header: ociIndex, raw: indexOf + `"manifests":{}}`},
	{what: "manifests of numbers", header: ociIndex, raw: indexOf + `"manifests":[1]}`},
	{what: "layers a string", header: ociImage, raw: imageOf + `"config":` + anyBlob + `,"layers":"x"}`},
	{what: "config a list", header: ociImage, raw: imageOf + `"config":[],"layers":[]}`},
	{what: "a digest that climbs", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"../../x","size":1}]}`},
	{what: "a digest that climbs behind sha256", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:../../../../../../../../etc/passwd","size":1}]}`},
	{what: "a short digest", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:ab","size":1}]}`},
	{what: "a long digest", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:` + anyHex + `0","size":1}]}`},
	{what: "a digest in capitals", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:` + strings.ToUpper(anyHex) + `","size":1}]}`},
	{what: "an md5", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1}]}`},
	{what: "a digest without algorithm", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"` + anyHex + `","size":1}]}`},
	{what: "a digest that is a number", header: ociIndex, raw: indexOf + `"manifests":[{"digest":1,"size":1}]}`},
	{what: "a layer's digest that climbs", header: ociImage, raw: imageOf + `"config":` + anyBlob + `,"layers":[{"digest":"sha256:..","size":1}]}`},
	{what: "a config's digest that climbs", header: ociImage, raw: imageOf + `"config":{"digest":"sha256:../x","size":1},"layers":[]}`},
	{what: "size 1e30", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:` + anyHex + `","size":1e30}]}`},
	{what: "size a string", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:` + anyHex + `","size":"1"}]}`},
	{what: "size 1.5", header: ociIndex, raw: indexOf + `"manifests":[{"digest":"sha256:` + anyHex + `","size":1.5}]}`},
	{what: "20 000 deep", header: ociIndex, raw: indexOf + `"manifests":[],"x":` + strings.Repeat("[", 20_000) + `}`},
	{what: "20 000 deep and closed", header: ociIndex, raw: indexOf + `"manifests":[],"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`},
	{what: "4 MiB and one", header: ociIndex, raw: indexOf + `"manifests":[]` + strings.Repeat(" ", 4<<20) + `}`},
	{what: "10⁵ entries", header: ociIndex, raw: indexOf + `"manifests":[` + strings.TrimSuffix(strings.Repeat(anyImage+",", 100_000), ",") + `]}`},
	{what: "10⁴ entries", header: ociIndex, raw: indexOf + `"manifests":[` + strings.TrimSuffix(strings.Repeat(anyImage+",", 10_000), ",") + `]}`, fine: true},
}

func TestHostileManifests(t *testing.T) {
	if len(manifests) < 60 {
		t.Errorf("only %d", len(manifests))
	}
	r := regtest.Start(t, regtest.Options{})
	for _, one := range manifests {
		r.Reset()
		header := http.Header{"Content-Type": {one.header}}
		if one.header == "-" {
			header = http.Header{"Content-Type": {""}}
		}
		r.Inject(regtest.Fault{Method: "GET", Times: -1, Status: 200, Body: one.raw, Header: header})
		start := time.Now()
		_, err := client(t).Get(t.Context(), r.Host+"/app:v1")
		if (err == nil) != one.fine || err != nil && errors.Is(err, manifest.ErrMismatch) == one.old || errors.Is(err, manifest.ErrNotFound) {
			t.Errorf("%s: %v", one.what, err)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\r\n\x1b\x00") || len(err.Error()) > 1024) {
			t.Errorf("%s: %q", one.what, err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s took %v", one.what, took)
		}
	}
}

// Impossible sizes are refused before anything is read.
func TestHostileSizes(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, size := range []string{"-1", "-9223372036854775808", "9223372036854775807", "629145600"} {
		r.Reset()
		r.Inject(regtest.Fault{Method: "GET", Status: 200, Header: http.Header{"Content-Type": {ociImage}}, Times: -1, Body: fmt.Sprintf(
			`%s"config":{"digest":"sha256:%s","size":%s},"layers":[{"mediaType":"x","digest":"sha256:%[2]s","size":%[3]s}]}`, imageOf, anyHex, size)})
		content := must(client(t).Get(t.Context(), r.Host+"/app:v1"))(t).(v1.Image)
		r.Reset()
		if _, err := content.RawConfigFile(); !errors.Is(err, manifest.ErrMismatch) || r.Total() != 0 {
			t.Errorf("%s: %v after %d requests", size, err, r.Total())
		}
		if _, err := must(content.Layers())(t)[0].Compressed(); size[0] == '-' && !errors.Is(err, manifest.ErrMismatch) {
			t.Errorf("%s: %v", size, err)
		}
	}
}

// References as users and files write them, with the registry that they belong to, or "" if
// they are refused. A reference never belongs to another host than the one at its
// beginning.
var references = []struct{ text, host string }{
	{"alpine", "docker.io"},
	{"alpine:3", "docker.io"},
	{"library/alpine", "docker.io"},
	{"docker.io/alpine", "docker.io"},
	{"index.docker.io/library/alpine:3", "docker.io"},
	{"registry-1.docker.io/library/alpine", "docker.io"},
	{"DOCKER.IO/alpine", "docker.io"},
	{"ghcr.io/acme/app:v1", "ghcr.io"},
	{"GHCR.io/acme/app:v1", "ghcr.io"},
	{"ghcr.io/acme/app@sha256:" + anyHex, "ghcr.io"},
	{"ghcr.io/acme/app:v1@sha256:" + anyHex, "ghcr.io"},
	{"localhost/app", "localhost"},
	{"localhost:5000/app", "localhost:5000"},
	{"127.0.0.1:5000/app", "127.0.0.1:5000"},
	{"registry.local/a/b/c/d:x", "registry.local"},
	{"reg.example.com.evil.tld/app", "reg.example.com.evil.tld"},
	{"ghcr.io.evil.tld/acme/app:v1", "ghcr.io.evil.tld"},
	{"ghcr.io:443/acme/app", "ghcr.io:443"},
	{"a.b:1/c", "a.b:1"},
	{"10.0.0.1/app", "10.0.0.1"},
	{"169.254.169.254/latest/meta-data", "169.254.169.254"}, // refused when it is dialed
	{"[::1]:5000/app", "[::1]:5000"},
	{"[::1]/app", "[::1]"},
	{"ghcr.io/acme/app:" + strings.Repeat("a", 128), "ghcr.io"},
	{"ghcr.io/" + strings.Repeat("a", 255), "ghcr.io"},
	{"ghcr.io/a_b/c-d/e.f:v1.2-3_4", "ghcr.io"},
	{"ghcr.io/a__b/c--d", "ghcr.io"},
	{"acme/app:latest", "docker.io"},
	{"evil.tld/ghcr.io/acme/app", "evil.tld"},
	{"xn--bcher-kva.example/app", "xn--bcher-kva.example"},
	{"ghcr.io/acme/app:" + strings.Repeat("a", 129), ""},
	{"ghcr.io/" + strings.Repeat("a", 256), ""},
	{"", ""},
	{" ", ""},
	{" alpine", ""},
	{"alpine ", ""},
	{"al pine", ""},
	{"alpine\n", ""},
	{"alpine\t", ""},
	{"alpine\x00", ""},
	{"\x1b[31malpine", ""},
	{"\u202ealpine", ""},
	{"älpine", ""},
	{"ghcr.io/acme/äpp", ""},
	{"ghcr.io/acme/app:ä", ""},
	{"Alpine", ""},
	{"ghcr.io/Acme/app", ""},
	{"alpine:", ""},
	{"alpine:a:b", ""},
	{"alpine:-x", ""},
	{"alpine:.x", ""},
	{"alpine:a/b", ""},
	{"alpine@", ""},
	{"alpine@sha256", ""},
	{"alpine@sha256:", ""},
	{"alpine@sha256:short", ""},
	{"alpine@sha256:" + anyHex[1:], ""},
	{"alpine@sha256:" + anyHex + "0", ""},
	{"alpine@sha256:" + strings.ToUpper(anyHex), ""},
	{"alpine@md5:d41d8cd98f00b204e9800998ecf8427e", ""},
	{"alpine@sha256:" + anyHex + "@sha256:" + anyHex, ""},
	{"alpine@../../x", ""},
	{"https://ghcr.io/acme/app", ""},
	{"http://localhost:5000/app", ""},
	{"docker://alpine", ""},
	{"//ghcr.io/app", ""},
	{"file:///etc/passwd", ""},
	{"me:pw@ghcr.io/acme/app", ""},
	{"me@ghcr.io/acme/app", ""},
	{"ghcr.io@evil.tld/app", ""},
	{"ghcr.io#@evil.tld/app", ""},
	{"ghcr.io?x=@evil.tld/app", ""},
	{"ghcr.io\\@evil.tld/app", ""},
	{"ghcr.io/acme/app?x=y", ""},
	{"ghcr.io/acme/app#x", ""},
	{"ghcr.io/acme/app%2f..", ""},
	{"ghcr.io/../app", ""},
	{"ghcr.io/a/../b", ""},
	{"ghcr.io/a/..", ""},
	{"..", ""},
	{".", ""},
	{"/", ""},
	{"/app", ""},
	{"ghcr.io/", ""},
	{"ghcr.io//app", ""},
	{"ghcr.io/app/", ""},
	{"ghcr.io:x/app", ""},
	{"ghcr.io:/app", ""},
	{"ghcr.io:99999999/app", ""}, // no address to dial
	{"ghcr.io:65536/app", ""},
	{"ghcr.io:65535/app", "ghcr.io:65535"},
	{"ghcr.io:0/app", ""},
	{"[::1]:70000/app", ""},
	{"[::1/app", ""},
	{"::1/app", ""},
	{"*", ""},
	{"$(id)", ""},
	{"-alpine", ""},
	{"--help", ""},
	{strings.Repeat("a/", 10_000) + "a", ""},
	{strings.Repeat("a", 64<<10), ""},
}

func TestHostileReferences(t *testing.T) {
	if len(references) < 80 {
		t.Errorf("only %d", len(references))
	}
	for _, one := range references {
		got, err := registry.HostOf(client(t), one.text)
		if got != one.host {
			t.Errorf("%.80q leads to %q, want %q (%v)", one.text, got, one.host, err)
		}
		var bad *name.ErrBadName
		if err != nil && (!errors.As(err, &bad) || len(err.Error()) > 1024 || strings.ContainsAny(err.Error(), "\x1b\r\n\x00\u202e")) {
			t.Errorf("%.80q: %q", one.text, err)
		}
	}
}
