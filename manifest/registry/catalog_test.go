package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

func TestRepositories(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{User: "me", Password: "secret", Bearer: true})
	c := &registry.Client{Keychain: login{"me", "secret"}, Sleep: (&naps{}).sleep}
	for _, repo := range []string{"c/d", "e"} {
		put(t, c, r.Host+"/"+repo+":v1", regtest.Image(t, "amd64", 100, 1))
	}
	r.Reset()
	if got := must(c.Repositories(t.Context(), r.Host))(t); !slices.Equal(got, []string{"c/d", "e"}) {
		t.Error(got)
	}
	expect(t, r, map[string]int{"GET catalog": 1, "GET token": 1})
	r.Reset()
	r.Inject(regtest.Fault{
		Path: "_catalog", Status: 200, Body: `{"repositories":["a","b"]}`,
		Header: http.Header{"Link": {`</v2/_catalog?last=b&n=2>; rel="next"`}},
	})
	if got := must(c.Repositories(t.Context(), r.Host))(t); !slices.Equal(got, []string{"a", "b", "c/d", "e"}) {
		t.Error(got)
	}
	expect(t, r, map[string]int{"GET catalog": 2})
}

// The length of a listing is bounded, and a registry cannot make it endless.
func TestListingIsBounded(t *testing.T) {
	t.Parallel()
	pages, name := 0, strings.Repeat("a", 3<<20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		pages++
		w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?last=%d>; rel="next"`, pages))
		key := map[bool]string{true: "tags", false: "repositories"}[strings.HasSuffix(req.URL.Path, "/tags/list")]
		fmt.Fprintf(w, `{%q:["%s"]}`, key, name)
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	for what, list := range map[string]func() ([]string, error){
		host + ": repositories": func() ([]string, error) { return client(t).Repositories(t.Context(), host) },
		host + "/app: tags":     func() ([]string, error) { return client(t).Tags(t.Context(), host+"/app") },
	} {
		pages = 0
		_, err := list()
		if !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), what+": more than 128 MiB of names") {
			t.Errorf("%v", err)
		}
		if pages != 43 {
			t.Errorf("%s: %d pages of 3 MiB were read", what, pages)
		}
	}
}

// A registry that does not list its repositories is an error with a hint, whatever its
// response. A failing registry is another error.
func TestRepositoriesUnlisted(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	for _, status := range []int{400, 401, 403, 404, 405, 501} {
		r.Reset()
		r.Inject(regtest.Fault{Path: "_catalog", Status: status, Times: -1, Body: `{"errors":[{"code":"UNSUPPORTED","message":"no"}]}`})
		_, err := client(t).Repositories(t.Context(), r.Host)
		if err == nil || !strings.Contains(err.Error(), "does not list its repositories") || !strings.Contains(hintOf(err), "write the repository") {
			t.Errorf("%d: %v: %s", status, err, hintOf(err))
		}
		if errors.Is(err, manifest.ErrNotFound) || errors.Is(err, registry.ErrCredentials) != (status == 401 || status == 403) {
			t.Errorf("%d: %v", status, err)
		}
		expect(t, r, map[string]int{"GET catalog": 1})
	}
	r.Reset()
	r.Inject(regtest.Fault{Path: "_catalog", Status: 503, Times: -1})
	if _, err := client(t).Repositories(t.Context(), r.Host); err == nil || strings.Contains(err.Error(), "does not list") {
		t.Errorf("got %v", err)
	}
	r.Reset()
	r.Inject(regtest.Fault{Path: "_catalog", Status: 200, Body: "<html>"})
	if _, err := client(t).Repositories(t.Context(), r.Host); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("got %v", err)
	}
	for _, host := range []string{"..", "a b", "host/path"} {
		if _, err := client(t).Repositories(t.Context(), host); err == nil {
			t.Errorf("%q is taken for a host", host)
		}
	}
}
