package main

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/mirrorfile"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A reload keeps what registries said about their limits, unless the file changes the
// limits.
func TestLimitsOutliveAPlan(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	r.Inject(regtest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}, Times: -1})
	ask := func(p *mirrorFile) int {
		t.Helper()
		before := len(r.Requests())
		c := &registry.Client{Keychain: authn.NewMultiKeychain(), Limits: p.limits}
		if _, err := c.Resolve(t.Context(), r.Host+"/app:v1"); err == nil {
			t.Error("there is an answer")
		}
		return len(r.Requests()) - before
	}
	says := func(perSecond int) *mirrorFile {
		return &mirrorFile{registries: map[string]mirrorfile.Registry{r.Host: {PerSecond: perSecond}}, limits: &registry.Limits{}}
	}
	first, same, other := says(1), says(1), says(2)
	silent := &mirrorFile{limits: &registry.Limits{}}
	if n := ask(first); n != 1 {
		t.Errorf("%d requests at first", n)
	}
	same.succeed(first)
	if n := ask(same); n != 0 {
		t.Errorf("%d requests to a registry that wants to be left alone", n)
	}
	other.succeed(same)
	if n := ask(other); n != 1 {
		t.Errorf("%d requests under other limits", n)
	}
	silent.succeed(other)
	if n := ask(silent); n != 1 {
		t.Errorf("%d requests under no limits", n)
	}
}

// An unwritable report does not hide a failed image, and a failed image does not hide the
// unwritable report.
func TestReportThatCannotBeWritten(t *testing.T) {
	failed := errors.New("connection lost")
	report := &mirror.Report{Failed: 1, Entries: []mirror.EntryReport{{Images: []mirror.Result{{Source: "up/app:v1", Err: failed}}}}}
	file := filepath.Join(t.TempDir(), "gone", "report.json") // the directory was there when the run began
	err := finishMirror(&app{stdout: io.Discard}, mirrorOptions{report: file}, report)
	if !errors.Is(err, failed) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestListenHosts: --listen answers under its own addresses, loopback names and
// --listen-host; a page under another name is refused (DNS rebinding).
func TestListenHosts(t *testing.T) {
	var told strings.Builder
	a := &app{log: slog.New(slog.NewTextHandler(&told, nil))}
	stop, err := serveStatus(t.Context(), a, mirror.NewObserver(nil), "127.0.0.1:0", []string{"Mirror.monitoring.svc"})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, address, _ := strings.Cut(strings.TrimSpace(told.String()), "address=")
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{address, "", 200},
		{"localhost:8080", "", 200},
		{"mirror.monitoring.svc:8080", "", 200},
		{"evil.example", "", 403},
		{"mirror.monitoring.svc.evil.example", "", 403},
		{address, "http://evil.example", 403},
	} {
		for _, path := range []string{"/healthz", "/metrics", "/", "/entry?name=a", "/status.json"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Host = c.host; c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != c.status && (path != "/entry?name=a" || resp.StatusCode != 404) || c.status == 403 && !strings.Contains(string(text), "--listen-host NAME") {
				t.Errorf("%s of %q from %q: %d %s %v", path, c.host, c.origin, resp.StatusCode, text, err)
			}
		}
	}
}
