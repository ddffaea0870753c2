package registry_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Clients that share limits all wait when a registry tells one of them to wait. Other
// clients do not.
func TestLimitsInCommon(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	put(t, client(t), r.Host+"/app:v1", regtest.Image(t, "amd64", 100, 1))
	r.Reset()
	r.Inject(regtest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}, Times: 1})
	manners := &registry.Limits{}
	for n := range 3 {
		c := &registry.Client{Keychain: login{}, Limits: manners}
		_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
		if at, ok := retryAt(err); !ok || time.Until(at) < 55*time.Minute {
			t.Errorf("client %d: %v", n, err)
		}
	}
	if got := len(r.Requests()); got != 1 {
		t.Errorf("%d requests, want the one that was told to wait", got)
	}
	must(client(t).Resolve(t.Context(), r.Host+"/app:v1"))(t)
	manners.Forget("elsewhere.example.com")
	c := &registry.Client{Keychain: login{}, Limits: manners}
	if _, err := c.Resolve(t.Context(), r.Host+"/app:v1"); err == nil {
		t.Error("another host was forgotten, and this one is asked")
	}
	manners.Forget(r.Host)
	c = &registry.Client{Keychain: login{}, Limits: manners}
	must(c.Resolve(t.Context(), r.Host+"/app:v1"))(t)
}
