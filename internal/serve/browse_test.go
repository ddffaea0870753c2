package serve_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mabuild/mabuild/internal/serve"
)

// html is the header of a browser.
const html = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// browse returns the page at a path and requires its status.
func browse(t *testing.T, host string, status int, path string, header ...string) string {
	t.Helper()
	r := must(t, status, call(t, host, http.MethodGet, path, "", append(header, html)...))
	if r.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%s: %v", path, r.header)
	}
	return r.body
}

func contains(t *testing.T, page string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(page, want) {
			_, body, _ := strings.Cut(page, "<body>")
			t.Errorf("no %q in %s", want, body)
		}
	}
}

// The pages show the repositories, their tags and platforms, and what a manifest says.
func TestPages(t *testing.T) {
	host := filled(t)
	pushManifest(t, host, "a/b", sum(referrer), imageType, referrer)
	page := browse(t, host, 200, "/")
	contains(t, page, `<a href="/r/a/b">a/b</a>`, `<a href="/r/a/b:v2">v2</a>`, ">4</td>", "1 repository.")
	page = browse(t, host, 200, "/r/a/b")
	order := []string{`href="/r/a/b:v2"`, `href="/r/a/b:V2"`, `href="/r/a/b:v1"`, `href="/r/a/b:latest"`}
	at := -1
	for _, tag := range []string{order[0], order[2], order[3]} {
		next := strings.Index(page, tag)
		if next <= at {
			t.Errorf("%s is not in the order of versions", tag)
		}
		at = next
	}
	size := fmt.Sprint(len(image)+len(config)+len(layer), " B")
	contains(t, page, "linux/amd64", `<a href="/r/a/b@`+sum(image)+`">`+size+"</a>", order[1])
	page = browse(t, host, 200, "/r/a/b:v2")
	contains(t, page, "docker pull "+host+"/a/b:v2<", "docker pull "+host+"/a/b@"+sum(index), `<a href="/r/a/b@`+sum(image)+`">linux/amd64</a>`, size)
	page = browse(t, host, 200, "/r/a/b@"+sum(image))
	contains(t, page, "An image for linux/amd64", "What refers to it", "sbom", "application/vnd.test.sbom", sum(layer)[:19], "10 B", "Layers")
	page = browse(t, host, 200, "/r/a/b@"+sum(referrer))
	contains(t, page, "An artifact, not an image: application/vnd.test.sbom", "Refers to", sum(image))
	if strings.Contains(page, "docker pull") {
		t.Error("an artifact can be pulled")
	}
}

// What cannot be shown is a page with the reason, and no failure.
func TestPagesOfNothing(t *testing.T) {
	host := filled(t)
	for path, want := range map[string]string{
		"/none": "no such page", "/r/": "is not a repository name", "/r/none": "there is no repository none", "/r/a/b:none": "not found",
		"/r/a/b@" + absent: "not found", "/r/a/b@v1": "name", "/r/a/b:" + sum(image): "name", "/r/A": "name", "/r/a/%2e%2e/b": "name",
		"/r/a/b?page=2": "no page", "/r/a/b?page=0": "no page", "/r/a/b?page=x": "no page", "/?page=2": "no page", "/r/a/b:-": "is not a tag",
		"/r/%3Cscript%3E": "&lt;script&gt;",
	} {
		r := call(t, host, http.MethodGet, path, "", html)
		if r.status != 404 && r.status != 400 || !strings.Contains(r.body, want) || strings.Contains(r.body, "<script") {
			t.Errorf("%s: %d %s", path, r.status, r.body[strings.Index(r.body, "<body>"):])
		}
	}
	empty, _ := start(t, t.TempDir())
	contains(t, browse(t, empty, 200, "/"), "0 repositories", "mabuild push ./cmd/app -t "+empty+"/app:v1")
}

// A client of the registry sees no difference, whatever it accepts: only a browser that
// asks for another path than those of the specification gets a page.
func TestClientsSeeNoPages(t *testing.T) {
	host := filled(t)
	for _, path := range []string{"/v2", "/v2/", "/v2/_catalog", "/v2/a/b/tags/list", "/v2/a/b/manifests/v1", "/v2/a/b/manifests/none", "/v2/a/b/blobs/" + sum(layer), "/v2/a/b/referrers/" + sum(image), "/v2/none"} {
		plain, browser := call(t, host, http.MethodGet, path, ""), call(t, host, http.MethodGet, path, "", html)
		plain.header.Del("Date")
		browser.header.Del("Date")
		if plain.status != browser.status || plain.body != browser.body || fmt.Sprint(plain.header) != fmt.Sprint(browser.header) {
			t.Errorf("%s: %v and %v", path, plain, browser)
		}
	}
	for _, accept := range []string{"", "*/*", "application/json", imageType + ", " + indexType + ", */*"} {
		r := must(t, 404, call(t, host, http.MethodGet, "/", "", "Accept: "+accept))
		if r.code() != "UNSUPPORTED" || r.header.Get("Content-Security-Policy") != "" {
			t.Errorf("%q: %v", accept, r)
		}
	}
}

// A page can only be read, under a name of the server.
func TestPagesAreReadOnly(t *testing.T) {
	host := filled(t)
	for _, path := range []string{"/", "/r/a/b", "/r/a/b:v1", "/none"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			r := must(t, 405, call(t, host, method, path, "x", html))
			if r.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %v", method, path, r.header)
			}
		}
		head, get := call(t, host, http.MethodHead, path, "", html), call(t, host, http.MethodGet, path, "", html)
		if head.status != get.status || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(get.body)) {
			t.Errorf("HEAD %s: %d, %q", path, head.status, head.header.Get("Content-Length"))
		}
		r := must(t, 403, call(t, host, http.MethodGet, path, "", html, "Host: evil.example"))
		if strings.Contains(r.body, "a/b") {
			t.Errorf("another host sees %s", r.body)
		}
	}
	contains(t, must(t, 200, call(t, host, http.MethodGet, "/v2/a/b/tags/list", "")).body, `"v1"`)
}

// Text in a registry is text on its pages.
func TestHostileRegistry(t *testing.T) {
	host := filled(t)
	bad := `</dd><script>alert(1)</script>\u202e\u0000` + strings.Repeat("w", 10_000)
	config := `{"architecture":"amd64","os":"linux","config":{"Labels":{"` + bad + `":"` + bad + `"},"Env":["` + bad + `"],"Entrypoint":["` + bad + `"],"User":"` + bad + `"},"history":[{"created_by":"` + bad + `","comment":"` + bad + `"}]}`
	pushBlob(t, host, "a/b", config)
	hostile := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[],"annotations":{"%s":"%s"}}`, imageType, descriptor("application/vnd.oci.image.config.v1+json", config), bad, bad)
	pushManifest(t, host, "a/b", "bad", imageType, hostile)
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"%s","architecture":"%s"}}],"annotations":{"%s":"%s"}}`,
		indexType, imageType, sum(hostile), len(hostile), bad, bad, bad, bad)
	pushManifest(t, host, "a/b", "badlist", indexType, list)
	attached := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x;%s","config":%s,"layers":[],"subject":%s,"annotations":{"in-toto.io/predicate-type":"%s"}}`,
		imageType, "<b>", descriptor("application/vnd.oci.empty.v1+json", config), descriptor(imageType, hostile), bad)
	pushManifest(t, host, "a/b", sum(attached), imageType, attached)
	for _, path := range []string{"/r/a/b", "/r/a/b:bad", "/r/a/b:badlist", "/r/a/b@" + sum(attached)} {
		page := browse(t, host, 200, path)
		if strings.Contains(page, "<script") || strings.Contains(page, "<b>") || strings.ContainsAny(page, "\u202e\x00") || len(page) > 200_000 {
			t.Errorf("%s has markup or %d bytes", path, len(page))
		}
	}
	contains(t, browse(t, host, 200, "/r/a/b:bad"), `&lt;/dd&gt;&lt;script&gt;alert(1)&lt;/script&gt;\u202e\u0000ww`, "Labels", "History")
}

// An image that was removed is said in a note, and the rest is shown. The index of the
// test does not say the platform of its image.
func TestPagesOfAnIncompleteIndex(t *testing.T) {
	host := filled(t)
	must(t, 202, call(t, host, http.MethodDelete, "/v2/a/b/manifests/"+sum(image), ""))
	contains(t, browse(t, host, 200, "/r/a/b"), "(unknown)", "incomplete: "+sum(image)+": not found")
	contains(t, browse(t, host, 200, "/r/a/b:v2"), "(unknown)", "incomplete: ")
	browse(t, host, 404, "/r/a/b@"+sum(image))
}

// A config that differs from its digest is said, and not shown.
func TestPagesOfDamagedContent(t *testing.T) {
	dir := t.TempDir()
	host, _ := start(t, dir)
	pushBlob(t, host, "a/b", config)
	pushBlob(t, host, "a/b", layer)
	pushManifest(t, host, "a/b", "v1", imageType, image)
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(sum(config), "sha256:")), []byte(strings.ToUpper(config)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/r/a/b", "/r/a/b:v1"} {
		contains(t, browse(t, host, 200, path), "the stored content is damaged")
	}
}

// manyTags makes a repository with many tags, of which each names one of a few indexes.
func manyTags(t testing.TB, dir string, n int) {
	t.Helper()
	base := filepath.Join(dir, "repositories", "many")
	write := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put := func(mediaType, content string) string {
		d := digest.FromString(content)
		write(filepath.Join(base, "_manifests", "sha256", d.Encoded()), mediaType+"\n"+content)
		return d.String()
	}
	var indexes []string
	for i := range 40 {
		var children []string
		for _, arch := range []string{"amd64", "arm64", "s390x", "ppc64le"} {
			child := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[],"annotations":{"n":"%d %s"}}`, imageType, descriptor("application/vnd.oci.image.config.v1+json", config), i, arch)
			put(imageType, child)
			children = append(children, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}`, imageType, sum(child), len(child), arch))
		}
		indexes = append(indexes, put(indexType, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, indexType, strings.Join(children, ","))))
	}
	for i := range n {
		write(filepath.Join(base, "_tags", fmt.Sprintf("v1.%d.%d", i/100, i%100)), indexes[i%len(indexes)]+"\n")
	}
}

// Tags are shown a page at a time, the newest version first.
func TestPagesOfManyTags(t *testing.T) {
	dir := t.TempDir()
	manyTags(t, dir, 10_000)
	host, _ := start(t, dir)
	contains(t, browse(t, host, 200, "/"), `<a href="/r/many:v1.99.99">v1.99.99</a>`, ">10\u2009000</td>")
	page := browse(t, host, 200, "/r/many")
	contains(t, page, "10\u2009000 tags", "Page 1 of 400", `<a href="/r/many?page=2" rel="next">`)
	if n := strings.Count(page, `href="/r/many:`); n != 25 {
		t.Errorf("%d tags on a page", n)
	}
	page = browse(t, host, 200, "/r/many?page=400")
	contains(t, page, `"/r/many:v1.0.24"`, `"/r/many:v1.0.0"`, `<a href="/r/many?page=399" rel="prev">`)
	if strings.Contains(page, "rel=\"next\"") {
		t.Error("there is a page after the last")
	}
}

// recorded is the answer of a handler to a browser.
func recorded(h http.Handler, path string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil)
	r.Header.Set("Accept", "text/html")
	h.ServeHTTP(w, r)
	return w
}

func BenchmarkPageOfManyTags(b *testing.B) {
	dir := b.TempDir()
	manyTags(b, dir, 10_000)
	s, err := serve.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	h := serve.NewRegistry(s, nil, log.New(io.Discard, "", 0))
	for b.Loop() {
		if w := recorded(h, "/r/many?page=200"); w.Code != 200 || !slices.Contains(strings.Fields(w.Body.String()), "200") {
			b.Fatal(w.Code)
		}
	}
}
