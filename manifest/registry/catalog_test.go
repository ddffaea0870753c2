package registry_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

func TestRepositories(t *testing.T) {
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

// A registry that does not list its repositories says so, in whatever way, and there
// is a way out; one that fails is a registry that fails.
func TestRepositoriesUnlisted(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	for _, status := range []int{400, 401, 403, 404, 405, 501} {
		r.Reset()
		r.Inject(regtest.Fault{Path: "_catalog", Status: status, Times: -1, Body: `{"errors":[{"code":"UNSUPPORTED","message":"no"}]}`})
		_, err := client(t).Repositories(t.Context(), r.Host)
		if err == nil || !strings.Contains(err.Error(), "does not list its repositories") || !strings.Contains(hintOf(err), "name the repository") {
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
