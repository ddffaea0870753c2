package registry

import (
	"net/url"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-1/2", "bytes 5-9/*", "bytes */5", "bytes 9-5/10", "bytes -1-2/3", "bytes 0-9223372036854775807/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		first, last, size, err := parseContentRange(value)
		if err == nil && (first < 0 || last < first || size >= 0 && last >= size || !strings.HasPrefix(value, "bytes ")) {
			t.Errorf("%q: %d-%d/%d", value, first, last, size)
		}
		if has, ok := parseRange(value); ok && has < 2 {
			t.Errorf("%q: %d", value, has)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"config":{},"layers":[],"Manifests":[]}`), "application/vnd.oci.image.index.v1+json")
	f.Fuzz(func(t *testing.T, raw []byte, header string) {
		found, err := manifest.MediaType(raw, plainType(header))
		if err != nil {
			return
		}
		if found.IsImage() == found.IsIndex() {
			t.Fatalf("%s is neither", found)
		}
		im, err := v1.ParseIndexManifest(strings.NewReader(string(raw)))
		if err == nil && found.IsImage() && len(im.Manifests) > 0 {
			t.Errorf("an image that is an index to others: %s", raw)
		}
	})
}

// A reference leads to the host that it begins with, or to Docker Hub, and to the
// path that it has.
func FuzzReference(f *testing.F) {
	for _, seed := range []string{"alpine", "ghcr.io/a/b:v1", "localhost:5000/a@sha256:" + strings.Repeat("a", 64), "a@b/c", "[::1]:5/a", "ghcr.io/../x", "GHCR.IO/a", "a.b:1/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &Client{}
		r, err := c.parse(text)
		if err != nil {
			return
		}
		head, _, slash := strings.Cut(text, "/")
		if r.host.Name != "docker.io" && (!slash || !strings.EqualFold(head, r.host.Name)) {
			t.Errorf("%q leads to %s", text, r.host.Name)
		}
		base := &url.URL{Scheme: "https", Host: r.host.Name, Path: "/v2/"}
		u, err := url.Parse(base.String())
		if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !strings.EqualFold(u.Host, r.host.Name) {
			t.Errorf("%q is asked at %v, %v", text, u, err)
		}
		if at := base.JoinPath(r.name); at.Path != "/v2/"+r.name {
			t.Errorf("%q is asked at %s", text, at)
		}
	})
}

// A digest is one that can be computed, and nothing else: it names no path.
func FuzzDigest(f *testing.F) {
	for _, seed := range []string{"sha256:" + strings.Repeat("a", 64), "sha512:" + strings.Repeat("0", 128), "sha256:..", "../x:y", "SHA256:" + strings.Repeat("A", 64), "md5:x", ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := v1.NewHash(text)
		if err != nil {
			return
		}
		if h.String() != text || strings.ContainsAny(text, "/\\.") || strings.ToLower(text) != text {
			t.Errorf("%q is taken for %s", text, h)
		}
		if _, err := digestOf(h.Algorithm, nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
