package serve_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	imageType = ocispec.MediaTypeImageManifest
	indexType = ocispec.MediaTypeImageIndex
)

// A response is what the registry answered, with the complete body.
type response struct {
	status int
	header http.Header
	body   string
}

// code returns the code of the first error.
func (r response) code() string {
	var list struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal([]byte(r.body), &list) != nil || len(list.Errors) == 0 {
		return ""
	}
	return list.Errors[0].Code
}

// call sends a request. Each header has the form "Name: value".
func call(t *testing.T, host, method, path, body string, header ...string) response {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		key, value, _ := strings.Cut(h, ": ")
		r.Header.Add(key, value)
		if key == "Host" {
			r.Host = value
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(raw)}
}

func must(t *testing.T, want int, r response) response {
	t.Helper()
	if r.status != want {
		t.Fatalf("%d %s, want %d", r.status, r.body, want)
	}
	return r
}

func sum(text string) string    { return digest.FromString(text).String() }
func sum512(text string) string { return digest.SHA512.FromString(text).String() }

func descriptor(mediaType, content string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, sum(content), len(content))
}

// pushBlob uploads a blob in one request.
func pushBlob(t *testing.T, host, repository, content string) {
	t.Helper()
	must(t, 201, call(t, host, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+sum(content), content))
}

func pushManifest(t *testing.T, host, repository, reference, mediaType, content string) {
	t.Helper()
	must(t, 201, call(t, host, "PUT", "/v2/"+repository+"/manifests/"+reference, content, "Content-Type: "+mediaType))
}

// begin starts an upload session and returns its path.
func begin(t *testing.T, host, repository string) string {
	t.Helper()
	return must(t, 202, call(t, host, "POST", "/v2/"+repository+"/blobs/uploads/", "")).header.Get("Location")
}

// The content of the repository a/b for every row of the table.
var (
	config   = `{"architecture":"amd64","os":"linux"}`
	layer    = "0123456789"
	image    = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, imageType, descriptor("application/vnd.oci.image.config.v1+json", config), descriptor("application/vnd.oci.image.layer.v1.tar", layer))
	index    = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, indexType, descriptor(imageType, image))
	bare     = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[]}`, imageType, descriptor("application/vnd.test.config+json", config))
	referrer = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.test.sbom","config":%s,"layers":[],"subject":%s,"annotations":{"key":"value"}}`, imageType, descriptor("application/vnd.oci.empty.v1+json", config), descriptor(imageType, image))
	// an artifact: its type is that of its config
	attached = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[],"subject":%s}`, imageType, descriptor("application/vnd.test.config+json", config), descriptor(imageType, image))
	list     = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.test.list","manifests":[],"subject":%s}`, indexType, descriptor(imageType, image))
	orphan   = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[],"subject":%s}`, imageType, descriptor("application/vnd.test.config+json", config), descriptor(imageType, "absent"))
	absent   = sum("absent")
)

func filled(t *testing.T) (host string) {
	t.Helper()
	host, _ = start(t, t.TempDir())
	pushBlob(t, host, "a/b", config)
	pushBlob(t, host, "a/b", layer)
	pushManifest(t, host, "a/b", "v1", imageType, image)
	for _, tag := range []string{"v2", "V2", "latest"} {
		pushManifest(t, host, "a/b", tag, indexType, index)
	}
	return host
}

// A row is a request to the registry of filled, and the response that the specification
// requires. An empty value of a header means that the header is absent.
type row struct {
	end, name    string
	method, path string
	body         string
	send         []string
	status       int
	code         string
	want         []string // headers
	is           string   // the body, unless it is empty
	after        func(t *testing.T, host string, r response)
}

// categories are those of the conformance tests, with their endpoints (distribution-spec
// 1.1, "Endpoints").
var categories = map[string][]string{
	"pull":               {"end-1", "end-2", "end-3"},
	"push":               {"end-4a", "end-4b", "end-5", "end-6", "end-7", "end-11", "end-13"},
	"content discovery":  {"end-8a", "end-8b", "end-12a", "end-12b"},
	"content management": {"end-9", "end-10"},
}

var rows = []row{
	{end: "end-1", name: "the registry", method: "GET", path: "/v2/", status: 200, want: []string{"Docker-Distribution-API-Version: registry/2.0"}},
	{end: "end-1", name: "without the slash", method: "GET", path: "/v2", status: 200},
	{end: "end-1", name: "another method", method: "POST", path: "/v2/", status: 405, code: "UNSUPPORTED", want: []string{"Allow: GET, HEAD"}},
	{end: "end-1", name: "another path", method: "GET", path: "/v1/", status: 404, code: "UNSUPPORTED"},

	{end: "end-2", name: "GET blob", method: "GET", path: "/v2/a/b/blobs/" + sum(layer), status: 200, is: layer, want: []string{"Docker-Content-Digest: " + sum(layer), "Content-Length: 10", "Content-Type: application/octet-stream", "X-Content-Type-Options: nosniff"}},
	{end: "end-2", name: "HEAD blob", method: "HEAD", path: "/v2/a/b/blobs/" + sum(layer), status: 200, want: []string{"Docker-Content-Digest: " + sum(layer), "Content-Length: 10"}},
	{end: "end-2", name: "from the second byte", method: "GET", path: "/v2/a/b/blobs/" + sum(layer), send: []string{"Range: bytes=1-"}, status: 206, is: "123456789", want: []string{"Content-Range: bytes 1-9/10"}},
	{end: "end-2", name: "the last two bytes", method: "GET", path: "/v2/a/b/blobs/" + sum(layer), send: []string{"Range: bytes=-2"}, status: 206, is: "89"},
	{end: "end-2", name: "beyond the end", method: "GET", path: "/v2/a/b/blobs/" + sum(layer), send: []string{"Range: bytes=10-"}, status: 416},
	{end: "end-2", name: "unknown blob", method: "GET", path: "/v2/a/b/blobs/" + absent, status: 404, code: "BLOB_UNKNOWN"},
	{end: "end-2", name: "HEAD unknown blob", method: "HEAD", path: "/v2/a/b/blobs/" + absent, status: 404},
	{end: "end-2", name: "invalid digest", method: "GET", path: "/v2/a/b/blobs/sha256:xyz", status: 400, code: "DIGEST_INVALID"},
	{end: "end-2", name: "digest of another algorithm", method: "GET", path: "/v2/a/b/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", status: 400, code: "DIGEST_INVALID"},
	{end: "end-2", name: "invalid name", method: "GET", path: "/v2/A/b/blobs/" + sum(layer), status: 400, code: "NAME_INVALID"},
	{end: "end-2", name: "no name", method: "GET", path: "/v2/blobs/" + sum(layer), status: 400, code: "NAME_INVALID"},
	{end: "end-2", name: "a name with ..", method: "GET", path: "/v2/a/%2e%2e/b/blobs/" + sum(layer), status: 400, code: "NAME_INVALID"},
	{end: "end-2", name: "a name that is too long", method: "GET", path: "/v2/" + strings.Repeat("a", 256) + "/blobs/" + sum(layer), status: 400, code: "NAME_INVALID"},
	{end: "end-2", name: "another method", method: "POST", path: "/v2/a/b/blobs/" + sum(layer), status: 405, code: "UNSUPPORTED", want: []string{"Allow: DELETE, GET, HEAD"}},

	{end: "end-3", name: "GET by tag", method: "GET", path: "/v2/a/b/manifests/v1", status: 200, is: image, want: []string{"Docker-Content-Digest: " + sum(image), "Content-Type: " + imageType, fmt.Sprint("Content-Length: ", len(image))}},
	{end: "end-3", name: "GET by digest", method: "GET", path: "/v2/a/b/manifests/" + sum(index), status: 200, is: index, want: []string{"Docker-Content-Digest: " + sum(index), "Content-Type: " + indexType}},
	{end: "end-3", name: "HEAD by tag", method: "HEAD", path: "/v2/a/b/manifests/v1", status: 200, want: []string{"Docker-Content-Digest: " + sum(image), "Content-Type: " + imageType, fmt.Sprint("Content-Length: ", len(image))}},
	{end: "end-3", name: "unknown tag", method: "GET", path: "/v2/a/b/manifests/absent", status: 404, code: "MANIFEST_UNKNOWN"},
	{end: "end-3", name: "unknown digest", method: "HEAD", path: "/v2/a/b/manifests/" + absent, status: 404},
	{end: "end-3", name: "unknown repository", method: "GET", path: "/v2/none/manifests/v1", status: 404, code: "MANIFEST_UNKNOWN"},
	{end: "end-3", name: "a blob is not a manifest", method: "GET", path: "/v2/a/b/manifests/" + sum(layer), status: 404, code: "MANIFEST_UNKNOWN"},
	{end: "end-3", name: "invalid tag", method: "GET", path: "/v2/a/b/manifests/-x", status: 400, code: "TAG_INVALID"},
	{end: "end-3", name: "a tag that is too long", method: "GET", path: "/v2/a/b/manifests/" + strings.Repeat("a", 129), status: 400, code: "TAG_INVALID"},
	{end: "end-3", name: "invalid digest", method: "GET", path: "/v2/a/b/manifests/sha256:1", status: 400, code: "DIGEST_INVALID"},

	{end: "end-4a", name: "begin", method: "POST", path: "/v2/a/b/blobs/uploads/", status: 202, want: []string{"Range: 0-0"}, after: func(t *testing.T, _ string, r response) {
		if id := r.header.Get("Docker-Upload-UUID"); len(id) != 36 || r.header.Get("Location") != "/v2/a/b/blobs/uploads/"+id {
			t.Error(r.header)
		}
	}},
	{end: "end-4a", name: "invalid name", method: "POST", path: "/v2/_a/blobs/uploads/", status: 400, code: "NAME_INVALID"},
	{end: "end-4a", name: "another method", method: "GET", path: "/v2/a/b/blobs/uploads/", status: 405, code: "UNSUPPORTED", want: []string{"Allow: POST"}},
	{end: "end-4b", name: "whole", method: "POST", path: "/v2/a/b/blobs/uploads/?digest=" + sum("new"), body: "new", status: 201, want: []string{"Location: /v2/a/b/blobs/" + sum("new"), "Docker-Content-Digest: " + sum("new")}, after: hasBlob(sum("new"), "new")},
	{end: "end-4b", name: "sha512", method: "POST", path: "/v2/a/b/blobs/uploads/?digest=" + sum512("new"), body: "new", status: 201, want: []string{"Docker-Content-Digest: " + sum512("new")}, after: hasBlob(sum512("new"), "new")},
	{end: "end-4b", name: "the empty blob", method: "POST", path: "/v2/a/b/blobs/uploads/?digest=" + sum(""), status: 201, after: hasBlob(sum(""), "")},
	{end: "end-4b", name: "wrong digest", method: "POST", path: "/v2/a/b/blobs/uploads/?digest=" + absent, body: "new", status: 400, code: "DIGEST_INVALID", after: hasNoBlob(absent)},
	{end: "end-4b", name: "wrong sha512", method: "POST", path: "/v2/a/b/blobs/uploads/?digest=" + sum512("old"), body: "new", status: 400, code: "DIGEST_INVALID", after: hasNoBlob(sum512("old"))},
	{end: "end-4b", name: "invalid digest", method: "POST", path: "/v2/a/b/blobs/uploads/?digest=new", body: "new", status: 400, code: "DIGEST_INVALID"},

	{end: "end-5", name: "unknown upload", method: "PATCH", path: "/v2/a/b/blobs/uploads/1", body: "x", status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
	{end: "end-6", name: "unknown upload", method: "PUT", path: "/v2/a/b/blobs/uploads/1?digest=" + sum("x"), body: "x", status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
	{end: "end-13", name: "unknown upload", method: "GET", path: "/v2/a/b/blobs/uploads/1", status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
	{end: "end-13", name: "cancel an unknown upload", method: "DELETE", path: "/v2/a/b/blobs/uploads/1", status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
	{end: "end-13", name: "another method", method: "POST", path: "/v2/a/b/blobs/uploads/1", status: 405, code: "UNSUPPORTED", want: []string{"Allow: DELETE, GET, HEAD, PATCH, PUT"}},

	{end: "end-7", name: "by tag", method: "PUT", path: "/v2/a/b/manifests/new", body: bare, send: []string{"Content-Type: " + imageType}, status: 201, want: []string{"Docker-Content-Digest: " + sum(bare), "Location: /v2/a/b/manifests/new", "OCI-Subject: "}, after: hasManifest("new", bare)},
	{end: "end-7", name: "by digest", method: "PUT", path: "/v2/a/b/manifests/" + sum(bare), body: bare, send: []string{"Content-Type: " + imageType}, status: 201, after: hasManifest(sum(bare), bare)},
	{end: "end-7", name: "by sha512", method: "PUT", path: "/v2/a/b/manifests/" + sum512(bare), body: bare, send: []string{"Content-Type: " + imageType}, status: 201, want: []string{"Docker-Content-Digest: " + sum512(bare)}, after: hasManifest(sum512(bare), bare)},
	{end: "end-7", name: "by another digest", method: "PUT", path: "/v2/a/b/manifests/" + absent, body: bare, send: []string{"Content-Type: " + imageType}, status: 400, code: "DIGEST_INVALID"},
	{end: "end-7", name: "a tag moves", method: "PUT", path: "/v2/a/b/manifests/v1", body: bare, send: []string{"Content-Type: " + imageType}, status: 201, after: hasManifest("v1", bare)},
	{end: "end-7", name: "parameters of the type", method: "PUT", path: "/v2/a/b/manifests/new", body: bare, send: []string{"Content-Type: " + imageType + "; charset=utf-8"}, status: 201, after: hasManifest("new", bare)},
	{end: "end-7", name: "with a subject", method: "PUT", path: "/v2/a/b/manifests/" + sum(referrer), body: referrer, send: []string{"Content-Type: " + imageType}, status: 201, want: []string{"OCI-Subject: " + sum(image)}},
	{end: "end-7", name: "with a subject that is missing", method: "PUT", path: "/v2/a/b/manifests/" + sum(orphan), body: orphan, send: []string{"Content-Type: " + imageType}, status: 201, want: []string{"OCI-Subject: " + absent}},
	{end: "end-7", name: "not JSON", method: "PUT", path: "/v2/a/b/manifests/new", body: "{", send: []string{"Content-Type: " + imageType}, status: 400, code: "MANIFEST_INVALID", after: hasNoManifest("new")},
	{end: "end-7", name: "invalid tag", method: "PUT", path: "/v2/a/b/manifests/.x", body: bare, send: []string{"Content-Type: " + imageType}, status: 400, code: "TAG_INVALID"},
	{end: "end-7", name: "too large", method: "PUT", path: "/v2/a/b/manifests/new", body: strings.Repeat(" ", 4<<20) + bare, send: []string{"Content-Type: " + imageType}, status: 413, code: "SIZE_INVALID", after: hasNoManifest("new")},
	{end: "end-7", name: "another method", method: "PATCH", path: "/v2/a/b/manifests/v1", body: "x", status: 405, code: "UNSUPPORTED", want: []string{"Allow: DELETE, GET, HEAD, PUT"}},

	{end: "end-8a", name: "all tags", method: "GET", path: "/v2/a/b/tags/list", status: 200, is: `{"name":"a/b","tags":["V2","latest","v1","v2"]}`, want: []string{"Link: "}},
	{end: "end-8a", name: "HEAD", method: "HEAD", path: "/v2/a/b/tags/list", status: 200, want: []string{"Content-Length: 47"}},
	{end: "end-8a", name: "unknown repository", method: "GET", path: "/v2/none/tags/list", status: 404, code: "NAME_UNKNOWN"},
	{end: "end-8a", name: "invalid name", method: "GET", path: "/v2/a//b/tags/list", status: 400, code: "NAME_INVALID"},
	{end: "end-8a", name: "the catalog", method: "GET", path: "/v2/_catalog", status: 200, is: `{"repositories":["a/b"]}`},
	{end: "end-8b", name: "two", method: "GET", path: "/v2/a/b/tags/list?n=2", status: 200, is: `{"name":"a/b","tags":["V2","latest"]}`, want: []string{`Link: </v2/a/b/tags/list?last=latest&n=2>; rel="next"`}},
	{end: "end-8b", name: "the next two", method: "GET", path: "/v2/a/b/tags/list?last=latest&n=2", status: 200, is: `{"name":"a/b","tags":["v1","v2"]}`, want: []string{"Link: "}},
	{end: "end-8b", name: "after a tag that is missing", method: "GET", path: "/v2/a/b/tags/list?last=m", status: 200, is: `{"name":"a/b","tags":["v1","v2"]}`},
	{end: "end-8b", name: "after the last", method: "GET", path: "/v2/a/b/tags/list?last=zzz", status: 200, is: `{"name":"a/b","tags":[]}`},
	{end: "end-8b", name: "none", method: "GET", path: "/v2/a/b/tags/list?n=0", status: 200, is: `{"name":"a/b","tags":[]}`, want: []string{"Link: "}},
	{end: "end-8b", name: "a negative number", method: "GET", path: "/v2/a/b/tags/list?n=-1", status: 400, code: "PAGINATION_NUMBER_INVALID"},
	{end: "end-8b", name: "not a number", method: "GET", path: "/v2/a/b/tags/list?n=x", status: 400, code: "PAGINATION_NUMBER_INVALID"},
	{end: "end-8b", name: "a number that overflows", method: "GET", path: "/v2/a/b/tags/list?n=99999999999999999999", status: 200, is: `{"name":"a/b","tags":["V2","latest","v1","v2"]}`},
	{end: "end-8b", name: "the catalog by pages", method: "GET", path: "/v2/_catalog?n=1", status: 200, is: `{"repositories":["a/b"]}`, want: []string{"Link: "}},
	{end: "end-8b", name: "a negative number of repositories", method: "GET", path: "/v2/_catalog?n=-1", status: 400, code: "PAGINATION_NUMBER_INVALID"},

	{end: "end-9", name: "a tag", method: "DELETE", path: "/v2/a/b/manifests/v2", status: 202, after: func(t *testing.T, host string, _ response) {
		hasNoManifest("v2")(t, host, response{})
		hasManifest("V2", index)(t, host, response{})
		hasManifest(sum(index), index)(t, host, response{})
	}},
	{end: "end-9", name: "a manifest with its tags", method: "DELETE", path: "/v2/a/b/manifests/" + sum(index), status: 202, after: func(t *testing.T, host string, _ response) {
		for _, reference := range []string{"v2", "V2", "latest", sum(index)} {
			hasNoManifest(reference)(t, host, response{})
		}
		if r := call(t, host, "GET", "/v2/a/b/tags/list", ""); r.body != `{"name":"a/b","tags":["v1"]}` {
			t.Error(r.body)
		}
	}},
	{end: "end-9", name: "a child of an index", method: "DELETE", path: "/v2/a/b/manifests/" + sum(image), status: 202, after: hasManifest("v2", index)},
	{end: "end-9", name: "unknown tag", method: "DELETE", path: "/v2/a/b/manifests/absent", status: 404, code: "MANIFEST_UNKNOWN"},
	{end: "end-9", name: "unknown digest", method: "DELETE", path: "/v2/a/b/manifests/" + absent, status: 404, code: "MANIFEST_UNKNOWN"},
	{end: "end-10", name: "a blob", method: "DELETE", path: "/v2/a/b/blobs/" + sum(layer), status: 202, after: hasNoBlob(sum(layer))},
	{end: "end-10", name: "unknown blob", method: "DELETE", path: "/v2/a/b/blobs/" + absent, status: 404, code: "BLOB_UNKNOWN"},

	{end: "end-11", name: "mount", method: "POST", path: "/v2/c/blobs/uploads/?mount=" + sum(layer) + "&from=a/b", status: 201, want: []string{"Location: /v2/c/blobs/" + sum(layer), "Docker-Content-Digest: " + sum(layer)}},
	{end: "end-11", name: "mount from anywhere", method: "POST", path: "/v2/c/blobs/uploads/?mount=" + sum(layer), status: 201},
	{end: "end-11", name: "unknown blob", method: "POST", path: "/v2/c/blobs/uploads/?mount=" + absent + "&from=a/b", status: 202, after: func(t *testing.T, host string, r response) {
		must(t, 204, call(t, host, "GET", r.header.Get("Location"), ""))
	}},
	{end: "end-11", name: "invalid digest", method: "POST", path: "/v2/c/blobs/uploads/?mount=x&from=a/b", status: 400, code: "DIGEST_INVALID"},
	{end: "end-11", name: "invalid name", method: "POST", path: "/v2/c/blobs/uploads/?mount=" + absent + "&from=A", status: 400, code: "NAME_INVALID"},

	{end: "end-12a", name: "none", method: "GET", path: "/v2/a/b/referrers/" + sum(layer), status: 200, is: `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`, want: []string{"Content-Type: " + indexType}},
	{end: "end-12a", name: "unknown repository", method: "GET", path: "/v2/none/referrers/" + absent, status: 200, is: `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`},
	{end: "end-12a", name: "invalid digest", method: "GET", path: "/v2/a/b/referrers/v1", status: 400, code: "DIGEST_INVALID"},
	{end: "end-12b", name: "none of a type", method: "GET", path: "/v2/a/b/referrers/" + sum(image) + "?artifactType=x/y", status: 200, want: []string{"OCI-Filters-Applied: artifactType"}},
}

func hasBlob(d, content string) func(*testing.T, string, response) {
	return func(t *testing.T, host string, _ response) {
		t.Helper()
		if r := call(t, host, "GET", "/v2/a/b/blobs/"+d, ""); r.status != 200 || r.body != content {
			t.Errorf("blob %s: %d %q", d, r.status, r.body)
		}
	}
}

func hasNoBlob(d string) func(*testing.T, string, response) {
	return func(t *testing.T, host string, _ response) {
		t.Helper()
		if r := call(t, host, "HEAD", "/v2/a/b/blobs/"+d, ""); r.status != 404 {
			t.Errorf("blob %s: %d", d, r.status)
		}
	}
}

func hasManifest(reference, content string) func(*testing.T, string, response) {
	return func(t *testing.T, host string, _ response) {
		t.Helper()
		if r := call(t, host, "GET", "/v2/a/b/manifests/"+reference, ""); r.status != 200 || r.body != content {
			t.Errorf("manifest %s: %d %q", reference, r.status, r.body)
		}
	}
}

func hasNoManifest(reference string) func(*testing.T, string, response) {
	return func(t *testing.T, host string, _ response) {
		t.Helper()
		if r := call(t, host, "HEAD", "/v2/a/b/manifests/"+reference, ""); r.status != 404 {
			t.Errorf("manifest %s: %d", reference, r.status)
		}
	}
}

// The registry conforms to the distribution specification, endpoint by endpoint. Uploads
// and referrers have further tests below.
func TestConformance(t *testing.T) {
	seen := map[string]bool{}
	for category, ends := range categories {
		for _, row := range rows {
			if !slices.Contains(ends, row.end) {
				continue
			}
			seen[row.end] = true
			t.Run(category+"/"+row.end+"/"+row.name, func(t *testing.T) { row.check(t) })
		}
		for _, end := range ends {
			if !seen[end] {
				t.Errorf("endpoint %s has no row", end)
			}
		}
	}
	for _, row := range rows {
		if !seen[row.end] {
			t.Errorf("endpoint %s is in no category", row.end)
		}
	}
}

func (row row) check(t *testing.T) {
	host := filled(t)
	r := call(t, host, row.method, row.path, row.body, row.send...)
	if r.status != row.status || row.method != "HEAD" && r.code() != row.code {
		t.Errorf("%d %q %s; want %d %s", r.status, r.code(), r.body, row.status, row.code)
	}
	for _, want := range row.want {
		if key, value, _ := strings.Cut(want, ": "); r.header.Get(key) != value {
			t.Errorf("%s is %q, want %q", key, r.header.Get(key), value)
		}
	}
	if row.is != "" && r.body != row.is {
		t.Errorf("%s\nwant %s", r.body, row.is)
	}
	if row.after != nil {
		row.after(t, host, r)
	}
}

// An upload session goes through the states of the specification (end-4a, end-5, end-6,
// end-13).
func TestUpload(t *testing.T) {
	status := func(t *testing.T, host, at, wanted string) {
		t.Helper()
		r := must(t, 204, call(t, host, "GET", at, ""))
		if r.header.Get("Range") != wanted || r.header.Get("Location") != at || r.header.Get("Docker-Upload-UUID") == "" {
			t.Error(r.header)
		}
	}
	gone := func(t *testing.T, host, at string) {
		t.Helper()
		must(t, 404, call(t, host, "GET", at, ""))
	}
	for name, run := range map[string]func(t *testing.T, host, at string){
		"chunks": func(t *testing.T, host, at string) {
			r := must(t, 202, call(t, host, "PATCH", at, "012", "Content-Range: 0-2"))
			if r.header.Get("Range") != "0-2" || r.header.Get("Location") != at {
				t.Error(r.header)
			}
			must(t, 202, call(t, host, "PATCH", at, "345", "Content-Range: 3-5"))
			status(t, host, at, "0-5")
			must(t, 201, call(t, host, "PUT", at+"?digest="+sum("0123456789"), "6789", "Content-Range: 6-9"))
			hasBlob(sum("0123456789"), "0123456789")(t, host, response{})
			gone(t, host, at)
		},
		"stream": func(t *testing.T, host, at string) {
			must(t, 202, call(t, host, "PATCH", at, "stream"))
			must(t, 201, call(t, host, "PUT", at+"?digest="+sum512("stream"), ""))
			hasBlob(sum512("stream"), "stream")(t, host, response{})
		},
		"complete in one PUT": func(t *testing.T, host, at string) {
			must(t, 201, call(t, host, "PUT", at+"?digest="+sum("whole"), "whole"))
			hasBlob(sum("whole"), "whole")(t, host, response{})
		},
		"out of order": func(t *testing.T, host, at string) {
			must(t, 202, call(t, host, "PATCH", at, "012", "Content-Range: 0-2"))
			for _, method := range []string{"PATCH", "PUT"} {
				r := must(t, 416, call(t, host, method, at+"?digest="+sum("012x"), "x", "Content-Range: 5-5"))
				if r.header.Get("Range") != "0-2" || r.header.Get("Location") != at || r.code() != "BLOB_UPLOAD_INVALID" {
					t.Error(method, r.header, r.body)
				}
			}
			status(t, host, at, "0-2")
		},
		"a range that does not fit": func(t *testing.T, host, at string) {
			for _, text := range []string{"0-9", "3-1"} {
				if r := must(t, 400, call(t, host, "PATCH", at, "012", "Content-Range: "+text)); r.code() != "SIZE_INVALID" {
					t.Error(r.body)
				}
			}
			if r := must(t, 400, call(t, host, "PATCH", at, "012", "Content-Range: bytes 0-2/3")); r.code() != "BLOB_UPLOAD_INVALID" {
				t.Error(r.body)
			}
			status(t, host, at, "0-0")
		},
		"cancel": func(t *testing.T, host, at string) {
			must(t, 202, call(t, host, "PATCH", at, "012"))
			must(t, 204, call(t, host, "DELETE", at, ""))
			gone(t, host, at)
			must(t, 404, call(t, host, "PATCH", at, "345"))
		},
		"wrong digest": func(t *testing.T, host, at string) {
			if r := must(t, 400, call(t, host, "PUT", at+"?digest="+absent, "012")); r.code() != "DIGEST_INVALID" {
				t.Error(r.body)
			}
			gone(t, host, at)
			hasNoBlob(absent)(t, host, response{})
		},
		"no digest": func(t *testing.T, host, at string) {
			if r := must(t, 400, call(t, host, "PUT", at, "012")); r.code() != "DIGEST_INVALID" {
				t.Error(r.body)
			}
			status(t, host, at, "0-0")
		},
		"another repository": func(t *testing.T, host, at string) {
			gone(t, host, strings.Replace(at, "/a/b/", "/c/", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := filled(t)
			run(t, host, begin(t, host, "a/b"))
		})
	}
}

// The referrers API lists the referrers of an image (end-12a, end-12b). The artifactType is
// that of the manifest, or the media type of the config.
func TestReferrers(t *testing.T) {
	host := filled(t)
	for content, mediaType := range map[string]string{referrer: imageType, attached: imageType, list: indexType, orphan: imageType} {
		pushManifest(t, host, "a/b", sum(content), mediaType, content)
	}
	referrers := func(query string) (all []ocispec.Descriptor) {
		t.Helper()
		var got ocispec.Index
		r := must(t, 200, call(t, host, "GET", "/v2/a/b/referrers/"+sum(image)+query, ""))
		if err := json.Unmarshal([]byte(r.body), &got); err != nil {
			t.Fatal(err)
		}
		return got.Manifests
	}
	want := map[string]string{sum(referrer): "application/vnd.test.sbom", sum(attached): "application/vnd.test.config+json", sum(list): "application/vnd.test.list"}
	got := map[string]string{}
	for _, d := range referrers("") {
		got[d.Digest.String()] = d.ArtifactType
		if d.Digest.String() == sum(referrer) && (d.Annotations["key"] != "value" || d.Size != int64(len(referrer)) || d.MediaType != imageType) {
			t.Errorf("%+v", d)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if some := referrers("?artifactType=application/vnd.test.sbom"); len(some) != 1 || some[0].Digest.String() != sum(referrer) {
		t.Error(some)
	}
	must(t, 202, call(t, host, "DELETE", "/v2/a/b/manifests/"+sum(referrer), ""))
	if some := referrers(""); len(some) != 2 {
		t.Error(some)
	}
}

// A body that is not exactly one valid manifest, or lacks a part in the repository, is
// refused.
func TestManifestsAreChecked(t *testing.T) {
	host := filled(t)
	configured := descriptor("application/vnd.oci.image.config.v1+json", config)
	gone := descriptor("application/vnd.oci.image.layer.v1.tar", "absent")
	foreign := strings.TrimSuffix(gone, "}") + `,"urls":["https://example.com/layer"]}`
	unlike := "application/vnd.test.manifest.v1+json"
	for name, c := range map[string]struct {
		mediaType, body string
		status          int
		code            string
	}{
		"image":                  {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[]}`, 201, ""},
		"image without a header": {"", `{"schemaVersion":2,"config":` + configured + `,"layers":null}`, 201, ""},
		"index without a header": {"", `{"schemaVersion":2,"manifests":[]}`, 201, ""},
		"foreign layer":          {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[` + foreign + `]}`, 201, ""},
		"unknown type":           {unlike, `{"mediaType":"` + unlike + `","more":1}`, 201, ""},
		"a blob in an index":     {indexType, `{"schemaVersion":2,"manifests":[` + descriptor("application/vnd.test.cache", layer) + `]}`, 201, ""},
		"an index with a descriptor without media type": {indexType, `{"schemaVersion":2,"manifests":[` + descriptor("", image) + `]}`, 201, ""},
		"unknown type by the header alone":              {unlike, `{"more":1}`, 400, "MANIFEST_INVALID"},
		"an HTML page":                                  {"text/html", `{"mediaType":"text/html"}`, 400, "MANIFEST_INVALID"},
		"not an object":                                 {imageType, `[]`, 400, "MANIFEST_INVALID"},
		"two objects":                                   {imageType, image + image, 400, "MANIFEST_INVALID"},
		"cut off":                                       {imageType, image[:len(image)-1], 400, "MANIFEST_INVALID"},
		"nothing":                                       {imageType, "", 400, "MANIFEST_INVALID"},
		"image and index":                               {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[],"manifests":[]}`, 400, "MANIFEST_INVALID"},
		"layers and index":                              {indexType, `{"schemaVersion":2,"layers":[],"manifests":[]}`, 400, "MANIFEST_INVALID"},
		"fsLayers":                                      {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[],"fsLayers":[]}`, 400, "MANIFEST_INVALID"},
		"a header for another type":                     {indexType, `{"schemaVersion":2,"config":` + configured + `,"layers":[]}`, 400, "MANIFEST_INVALID"},
		"an index header for an image":                  {indexType, image, 400, "MANIFEST_INVALID"},
		"header without a type":                         {"application/json", image, 400, "MANIFEST_INVALID"},
		"image without a config":                        {imageType, `{"schemaVersion":2,"layers":[]}`, 400, "MANIFEST_INVALID"},
		"version 1":                                     {imageType, `{"schemaVersion":1,"config":` + configured + `,"layers":[]}`, 400, "MANIFEST_INVALID"},
		"a key twice":                                   {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[],"layers":[]}`, 400, "MANIFEST_INVALID"},
		"a key in another case":                         {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[],"Manifests":[]}`, 400, "MANIFEST_INVALID"},
		"invalid digest":                                {indexType, `{"schemaVersion":2,"manifests":[{"digest":"sha256:1"}]}`, 400, "MANIFEST_INVALID"},
		"invalid subject":                               {indexType, `{"schemaVersion":2,"manifests":[],"subject":{"digest":"../x"}}`, 400, "MANIFEST_INVALID"},
		"wrong size":                                    {imageType, `{"schemaVersion":2,"config":` + strings.Replace(configured, `"size":`, `"size":1`, 1) + `,"layers":[]}`, 400, "MANIFEST_INVALID"},
		"no config":                                     {imageType, `{"schemaVersion":2,"config":` + gone + `,"layers":[]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		"foreign config":                                {imageType, `{"schemaVersion":2,"config":` + foreign + `,"layers":[]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		"no layer":                                      {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[` + gone + `]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		"a layer that is its subject":                   {imageType, `{"schemaVersion":2,"config":` + configured + `,"layers":[` + gone + `],"subject":` + gone + `}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		"no child":                                      {indexType, `{"schemaVersion":2,"manifests":[` + descriptor(imageType, "absent") + `]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		"a blob as a child":                             {indexType, `{"schemaVersion":2,"manifests":[` + descriptor(imageType, layer) + `]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if c.mediaType != "" {
				header = []string{"Content-Type: " + c.mediaType}
			}
			r := call(t, host, "PUT", "/v2/a/b/manifests/new", c.body, header...)
			if r.status != c.status || r.code() != c.code {
				t.Errorf("%d %s; want %d %s", r.status, r.body, c.status, c.code)
			}
			if c.status == 201 {
				hasManifest("new", c.body)(t, host, r)
				must(t, 202, call(t, host, "DELETE", "/v2/a/b/manifests/new", ""))
			}
			hasNoManifest("new")(t, host, r)
		})
	}
}

// The entries of an index must be in its own repository.
func TestChildrenBelongToTheirRepository(t *testing.T) {
	host := filled(t)
	if r := call(t, host, "PUT", "/v2/c/manifests/v1", index, "Content-Type: "+indexType); r.status != 404 || r.code() != "MANIFEST_BLOB_UNKNOWN" {
		t.Error(r)
	}
	pushManifest(t, host, "c", "v1", imageType, image) // blobs are shared by all repositories
	if r := call(t, host, "GET", "/v2/_catalog", ""); r.body != `{"repositories":["a/b","c"]}` {
		t.Error(r.body)
	}
	must(t, 202, call(t, host, "DELETE", "/v2/c/manifests/"+sum(image), ""))
	if r := call(t, host, "GET", "/v2/_catalog", ""); r.body != `{"repositories":["a/b"]}` {
		t.Error(r.body)
	}
}
