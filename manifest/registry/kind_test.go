package registry_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Every kind of error can occur, has a hint if there is a remedy, and has its row in
// docs/errors.md.
func TestKinds(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	answers := func(f regtest.Fault) func(*registry.Client) error {
		return func(c *registry.Client) error {
			r.Reset()
			f.Times = -1
			r.Inject(f)
			_, err := c.Get(t.Context(), r.Host+"/app:v1")
			return err
		}
	}
	asks := func(host string) func(*registry.Client) error {
		return func(c *registry.Client) error {
			_, err := c.Get(t.Context(), host+"/app:v1")
			return err
		}
	}
	ways := map[registry.Kind]func(*registry.Client) error{
		registry.KindUnauthorized:   answers(regtest.Fault{Status: 401}),
		registry.KindNotFound:       answers(regtest.Fault{Status: 404}),
		registry.KindRateLimited:    answers(regtest.Fault{Status: 429}),
		registry.KindServerError:    answers(regtest.Fault{Status: 502}),
		registry.KindRefused:        answers(regtest.Fault{Status: 418}),
		registry.KindInvalidContent: answers(regtest.Fault{Status: 200, Header: http.Header{"Content-Length": {"5000000"}}}),
		registry.KindBlocked:        answers(regtest.Fault{Status: 307, Header: http.Header{"Location": {"ftp://x/"}}}),
		registry.KindProxy: func(c *registry.Client) error {
			proxy, _ := startProxy(t, "", 407)
			t.Setenv("HTTPS_PROXY", proxy)
			return asks("example.com")(c)
		},
		registry.KindTLS:         asks(secure.Listener.Addr().String()),
		registry.KindUnreachable: asks("127.0.0.1:1"),
		registry.KindTimeout: func(c *registry.Client) error {
			registry.SetPatience(c, 20*time.Millisecond)
			return answers(regtest.Fault{Action: regtest.Stall})(c)
		},
		registry.KindConnection: answers(regtest.Fault{Action: regtest.Abort}),
		registry.KindCancelled: func(c *registry.Client) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := c.Get(ctx, r.Host+"/app:v1")
			return err
		},
	}
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range registry.Kinds {
		if ways[kind] == nil {
			t.Errorf("nothing produces %s", kind)
			continue
		}
		err := ways[kind](client(t))
		var e *registry.Error
		if !errors.As(err, &e) || e.Kind() != kind {
			t.Errorf("%s: got %v", kind, err)
		}
		if !strings.Contains(string(text), "\n| "+string(kind)+" | ") {
			t.Errorf("docs/errors.md has no row for %s", kind)
		}
	}
	if rows := strings.Count(string(text), "\n| "); rows < len(registry.Kinds) {
		t.Errorf("%d rows", rows)
	}
}
