package regtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mabuild/mabuild/internal/regtest"
)

// go-containerregistry can push in every mode, so the proxy and the token service work for
// other clients too.
func TestModes(t *testing.T) {
	for name, o := range map[string]regtest.Options{
		"open":   {},
		"disk":   {Dir: t.TempDir()},
		"basic":  {User: "me", Password: "secret"},
		"bearer": {User: "me", Password: "secret", Bearer: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := regtest.Start(t, o)
			idx := regtest.RandomIndex(t, 300, 1, "amd64", "arm64")
			auth := authn.FromConfig(authn.AuthConfig{Username: o.User, Password: o.Password})
			if err := remote.WriteIndex(ref(t, r, "app:v1"), idx, remote.WithAuth(auth)); err != nil {
				t.Fatal(err)
			}
			if n := r.Tally()["PUT manifest"]; n != 3 {
				t.Errorf("%v", r.Tally())
			}
			if o.User == "" {
				return
			}
			wrong := authn.FromConfig(authn.AuthConfig{Username: o.User, Password: "wrong"})
			_, err := remote.Head(ref(t, r, "app:v1"), remote.WithAuth(wrong))
			if e, ok := err.(*transport.Error); !ok || e.StatusCode != http.StatusUnauthorized { //nolint:errorlint // as it comes
				t.Errorf("got %v", err)
			}
		})
	}
}

func ref(t *testing.T, r *regtest.Registry, path string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(r.Host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// The judge refuses an image if it does not have the blobs.
func TestJudgement(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	raw, err := regtest.Image(t, "amd64", 100, 1).RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+r.Host+"/v2/app/manifests/v1", strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s: %s", resp.Status, body)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A fault strikes as often as configured, from the configured request on.
func TestFaultCounts(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	r.Inject(regtest.Fault{Method: "GET", Path: "^/v2/$", Nth: 2, Times: 2, Status: 503})
	var got []int
	for range 5 {
		resp, err := http.Get("http://" + r.Host + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		got = append(got, resp.StatusCode)
	}
	if want := [5]int{200, 503, 503, 200, 200}; [5]int(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	http.DefaultClient.CloseIdleConnections()
}
