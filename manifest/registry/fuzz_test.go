package registry

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s",scope="repository:a:pull"`)
	f.Add(`Basic realm=x, Bearer realm="\""`)
	f.Fuzz(func(t *testing.T, line string) {
		c := &Client{}
		c.start()
		h := c.transport.Registry("registry.example.com")
		for _, one := range parseChallenges(http.Header{"Www-Authenticate": {line}}) {
			realm, err := c.transport.auth.parseRealm(h, one.params["realm"])
			if err == nil && realm.Scheme != "https" {
				t.Errorf("a token server at %s", realm)
			}
			if err == nil && c.transport.auth.trusts(h, realm) && realm.Hostname() != "example.com" && !strings.HasSuffix(strings.ToLower(realm.Hostname()), ".example.com") && !strings.EqualFold(realm.Hostname(), "example.com") {
				t.Errorf("credentials for %s", realm)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, seed := range []string{"2", "-1", "", "1e9", "99999999999999999999", "Fri, 02 Jan 2026 03:05:05 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if d := parseRetryAfter(value, now); d != unsaid && (d < 0 || d > 365*24*time.Hour) {
			t.Errorf("%q: %v", value, d)
		}
	})
}

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

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"/v2/x", "//evil.org/x", "https://r.example.com:443/x", "http://r.example.com/", "https://r.example.com@evil.org/", "https://R.EXAMPLE.COM\\@evil.org"} {
		f.Add(seed)
	}
	from := &url.URL{Scheme: "https", Host: "r.example.com", Path: "/v2/a/blobs/uploads/"}
	f.Fuzz(func(t *testing.T, location string) {
		resp := &http.Response{Request: &http.Request{URL: from}, Header: http.Header{"Location": {location}}}
		s, err := newUploadSession(resp)
		if err != nil || !sameOrigin(from, s.url) {
			return
		}
		again, err := url.Parse(s.url.String())
		if err != nil || again.Scheme != "https" || !strings.EqualFold(again.Hostname(), "r.example.com") || again.User != nil || portOf(again) != "443" {
			t.Errorf("credentials for %q go to %s", location, s.url)
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
		if r.host.Name != hubName && (!slash || !strings.EqualFold(head, r.host.Name)) {
			t.Errorf("%q leads to %s", text, r.host.Name)
		}
		u, err := url.Parse(r.host.base("https").String())
		if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !strings.EqualFold(u.Host, r.host.address) {
			t.Errorf("%q is asked at %v, %v", text, u, err)
		}
		if at := r.host.base("https").JoinPath(r.name); at.Path != "/v2/"+r.name {
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

// What a Link header says of the next page is a query and nothing else. A link that was
// read is read the same when it is written down again, alone, behind another and in a
// header of its own.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{
		`</v2/a/tags/list?last=b&n=2>; rel="next"`, `<?last=b>;rel=next`, `<https://evil.example/?last=b>; REL = "prev Next"`,
		`<a>; rel=first, <?n=1&last=x,y>; title="a,b\"c"; rel="next"`, `<?a=1>; rel=next; anchor="#x"`, `<?a`, `,,;`, `<>; rel=next`, `<?a=1>; rel='next'`, `<?a=%zz>; rel=next`,
		`<>;rel=0'`, `<>;rel=''next''`, `<>;rel="'next'"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Link": {line}}
		all, ok := parseLinks(h)
		query, broken := NextPage(h)
		if len(query) > 0 && broken || query != nil && len(query) == 0 {
			t.Fatalf("%q: %v, %t", line, query, broken)
		}
		at := (&url.URL{Scheme: "https", Host: "r.example.com", Path: "/v2/a/tags/list"})
		at.RawQuery = query.Encode()
		if again, err := url.Parse(at.String()); err != nil || again.Host != at.Host || again.Path != at.Path || again.Fragment != "" {
			t.Errorf("%q leads to %s", line, at)
		}
		if next := strings.Contains(strings.ToLower(line), "next"); !ok && query == nil && next != broken {
			t.Errorf("%q ends the listing: next %t, broken %t", line, next, broken)
		}
		for _, one := range all {
			if one.anchor || strings.ContainsAny(one.target, "<>") || strings.ContainsAny(strings.Join(one.rels, ""), `"\`) {
				continue
			}
			text := `<` + one.target + `>; rel="` + strings.Join(one.rels, " ") + `"`
			for _, h := range []http.Header{{"Link": {text}}, {"Link": {`<x>; title="a, <b>";rel=x , ` + text}}, {"Link": {`<x>; rel=y`, text + `,`}}} {
				back, ok := parseLinks(h)
				if !ok || back[len(back)-1].target != one.target || strings.Join(back[len(back)-1].rels, " ") != strings.Join(one.rels, " ") {
					t.Errorf("%q: %+v is written %q and read %+v", line, one, text, back)
				}
			}
		}
	})
}
