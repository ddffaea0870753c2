package registry_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{TLS: true})
	ca := must(r.CA(t.TempDir()))(t)
	img := regtest.Image(t, "amd64", 5000, 2)
	c := client(t)
	c.CAFile = ca
	put(t, c, r.Host+"/app:v1", img)
	verifyTag(t, r, "app:v1", img)

	_, err := client(t).Resolve(t.Context(), r.Host+"/app:v1")
	if settingOf(err) != "CAFile" {
		t.Errorf("got %v, setting %q", err, settingOf(err))
	}
	c = client(t)
	c.Hosts = map[string]registry.Host{r.Host: {SkipVerify: true}}
	must(c.Resolve(t.Context(), r.Host+"/app:v1"))(t)

	c = client(t) // a host with its own authority
	c.Hosts = map[string]registry.Host{r.Host: {CAFile: ca}}
	must(c.Resolve(t.Context(), r.Host+"/app:v1"))(t)

	for _, file := range []string{"/nowhere", ca + ".key"} {
		c = client(t)
		c.CAFile = file
		if _, err := c.Resolve(t.Context(), r.Host+"/app:v1"); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v", err)
		}
	}
}

// A host that answered with TLS never gets plain http, whatever its certificate or its
// redirects are.
func TestNeverBackToHTTP(t *testing.T) {
	t.Parallel()
	evil := regtest.StartEvil(t)
	r := regtest.Start(t, regtest.Options{TLS: true})
	c := client(t)
	c.Hosts = map[string]registry.Host{r.Host: {PlainHTTP: true}}
	_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
	if settingOf(err) != "CAFile" {
		t.Errorf("got %v", err)
	}
	r.Inject(regtest.Fault{Status: 307, Times: -1, Header: http.Header{"Location": {evil.URL}}})
	c = client(t)
	c.Hosts = map[string]registry.Host{r.Host: {SkipVerify: true}}
	if _, err := c.Resolve(t.Context(), r.Host+"/app:v1"); err == nil || len(evil.Seen()) != 0 {
		t.Errorf("got %v", err)
	}
}

// A registry mirror is read instead of the host. If it lacks something or is unreachable,
// the next one is read. Nothing is written to it.
func TestMirrors(t *testing.T) {
	t.Parallel()
	origin, mirror := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{})
	img, only := regtest.Image(t, "amd64", 5000, 2), regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), origin.Host+"/app:v1", img)
	put(t, client(t), mirror.Host+"/app:v1", img)
	put(t, client(t), origin.Host+"/app:v2", only)
	with := func() *registry.Client {
		origin.Reset()
		mirror.Reset()
		c := client(t)
		c.Hosts = map[string]registry.Host{origin.Host: {Mirrors: []string{mirror.Host}}}
		return c
	}
	c := with()
	must(c.Get(t.Context(), origin.Host+"/app:v1"))(t)
	expect(t, origin, map[string]int{})
	expect(t, mirror, map[string]int{"GET manifest": 1})

	c = with()
	if got := must(c.Get(t.Context(), origin.Host+"/app:v2"))(t); digestOf(t, got) != digestOf(t, only) {
		t.Error("another image")
	}
	expect(t, origin, map[string]int{"GET manifest": 1})

	c = with()
	mirror.Inject(regtest.Fault{Times: -1, Action: regtest.Close})
	content := must(c.Get(t.Context(), origin.Host+"/app:v1"))(t)
	must(content.(v1.Image).RawConfigFile())(t)
	if n := mirror.Total(); n != 1 {
		t.Errorf("a mirror that is down was asked %d times", n)
	}

	c = with()
	put(t, c, origin.Host+"/new:v1", img)
	expect(t, mirror, map[string]int{})
}

// The log of a push has what was sent and contains no secret.
func TestLog(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, bearer)
	h := &records{}
	c := client(t)
	c.Keychain, c.Log = login{"me", "secret"}, slog.New(h)
	put(t, c, r.Host+"/app:v1", regtest.Image(t, "amd64", 300_000, 1))
	whole, requests := 0, 0
	for _, rec := range h.all {
		text := rec.Message
		values := map[string]slog.Value{}
		rec.Attrs(func(a slog.Attr) bool {
			values[a.Key] = a.Value
			text += " " + a.String()
			return true
		})
		for _, secret := range []string{"secret", "Bearer", "Basic", "_state"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q in the log: %s", secret, text)
			}
		}
		switch {
		case rec.Message == "request":
			requests++
		case rec.Level == registry.LevelTransfer && values["op"].String() == "upload" && values["bytes"].Int64() == values["size"].Int64():
			whole++
		}
	}
	if whole != 2 || requests != len(r.Requests()) {
		t.Errorf("%d transfers of 2, %d requests of %d", whole, requests, len(r.Requests()))
	}
}

type records struct {
	mu  sync.Mutex
	all []slog.Record
}

func (*records) Enabled(context.Context, slog.Level) bool { return true }
func (h *records) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h *records) WithGroup(string) slog.Handler          { return h }
func (h *records) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, r)
	return nil
}

// Invalid references are refused before any request.
func TestBadReference(t *testing.T) {
	for _, ref := range []string{"", "UPPER/case", "a b", "a:b:c", "x@sha256:short", "https://a/b", "a/..", strings.Repeat("a", 300), "\x1b[31m"} {
		_, err := client(t).Resolve(t.Context(), ref)
		if err == nil || errors.Is(err, manifest.ErrNotFound) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}
