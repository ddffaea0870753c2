package download

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aead.dev/minisign"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/address"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
)

// sumOf returns the sha256 of a text.
func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// newClient returns a client of a new directory.
func newClient(t *testing.T, c *cache.Cache) *Client {
	t.Helper()
	return &Client{Dir: t.TempDir(), Cache: c, Log: slog.New(slog.DiscardHandler), Wait: time.Millisecond}
}

// serve starts a server that counts the requests.
func serve(t *testing.T, handle http.HandlerFunc) (at string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// A file is downloaded once: the same run has it in its directory, another one in the cache. A
// damaged file of the cache is downloaded again.
func TestGet(t *testing.T) {
	kept := t.TempDir()
	c, err := cache.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	at, requests := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "content") })
	first := newClient(t, c)
	for i, client := range []*Client{first, first, newClient(t, c)} {
		file, err := client.Get(t.Context(), at+"/app.tar.gz", sumOf("content"))
		if err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(file); err != nil || string(content) != "content" || requests.Load() != 1 {
			t.Errorf("%d: %q, %v; %d requests", i, content, err, requests.Load())
		}
	}
	blob := filepath.Join(kept, "blobs", "sha256", sumOf("content"))
	if err := errors.Join(os.Chmod(blob, 0o600), os.WriteFile(blob, []byte("damaged"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, c).Get(t.Context(), at, sumOf("content")); err != nil || requests.Load() != 2 {
		t.Errorf("%v, %d requests", err, requests.Load())
	}
	client := newClient(t, nil)
	sum, err := client.First(t.Context(), at)
	if err != nil || sum != sumOf("content") {
		t.Errorf("%s, %v", sum, err)
	}
	if _, err := client.Get(t.Context(), at, sum); err != nil || requests.Load() != 3 {
		t.Errorf("%v, %d requests", err, requests.Load())
	}
}

// A file with another sum is not kept, anywhere. The error has both sums and the URL.
func TestSumDiffers(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at, requests := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") })
	client := newClient(t, c)
	_, err = client.Get(t.Context(), at+"/app", sumOf("content"))
	want := fmt.Sprintf("GET %s/app: the sha256 is %s, but mabuild.lock has %s", at, sumOf("other"), sumOf("content"))
	if err == nil || err.Error() != want || hint.KindOf(err) != hint.Content {
		t.Errorf("%v\nwant %s", err, want)
	}
	if left, err := os.ReadDir(client.Dir); err != nil || len(left) > 0 || requests.Load() != 1 {
		t.Errorf("%v are left, %v; %d requests", left, err, requests.Load())
	}
	if _, _, err := c.Get(v1.Hash{Algorithm: "sha256", Hex: sumOf("other")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cache has it: %v", err)
	}
}

// What a server does wrong is an error with the URL. What may pass is tried three times.
func TestRefusals(t *testing.T) {
	at, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		to := map[string]string{
			"/plain": "http://example.com/app", "/private": "https://10.1.2.3/app", "/metadata": "https://169.254.169.254/latest", "/loop": "/loop",
			"/credentials": "https://me:secret@example.com/app", "/file": "file:///etc/passwd",
		}[r.URL.Path]
		switch r.URL.Path {
		case "/missing":
			http.NotFound(w, r)
		case "/busy":
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case "/short":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		default:
			http.Redirect(w, r, to, http.StatusFound)
		}
	})
	for path, c := range map[string]struct {
		want     string
		requests int32
	}{
		"/missing":     {"404 Not Found", 1},
		"/busy":        {"503 Service Unavailable", 3},
		"/short":       {"unexpected EOF", 3},
		"/plain":       {"it redirects to http://example.com/app: http://example.com/app: only https is used", 1},
		"/file":        {`it redirects to file:///etc/passwd: "file:///etc/passwd" is not a URL`, 1},
		"/private":     {"10.1.2.3 is a private address, to which nothing that is public may lead", 1},
		"/metadata":    {"169.254.169.254 is a link-local address or a cloud's metadata service, which is never used", 1},
		"/credentials": {"it redirects to https://me:xxxxx@example.com/app: the URL of example.com contains credentials", 1},
		"/loop":        {"more than 10 redirects", 10},
	} {
		requests.Store(0)
		client := newClient(t, nil)
		_, err := client.First(t.Context(), at+path)
		if want := "GET " + at + path + ": " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", path, err, want)
		}
		if requests.Load() != c.requests {
			t.Errorf("%s: %d requests, want %d", path, requests.Load(), c.requests)
		}
		if left, err := os.ReadDir(client.Dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v are left, %v", path, left, err)
		}
	}
	for url, want := range map[string]string{
		"http://example.com/a":        "http://example.com/a: only https is used",
		"https://me@example.com/a":    "the URL of example.com contains credentials",
		"ftp://example.com/a":         "ftp://example.com/a: only https is used",
		"app.tar.gz":                  `"app.tar.gz" is not a URL`,
		"https://":                    `"https://" is not a URL`,
		"http://127.0.0.1.example/":   "http://127.0.0.1.example/: only https is used",
		"https://example.com/a":       "",
		"http://127.0.0.1:1/a":        "",
		"http://[::1]/a":              "",
		"http://localhost:80/a":       "",
		"http://0x7f.1/a":             "http://0x7f.1/a: only https is used",
		"http://169.254.169.254/meta": "http://169.254.169.254/meta: only https is used",
	} {
		if _, err := Check(url); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
	for url, good := range map[string]bool{
		"http://example.com/a": true, "https://example.com/a": true, "http://me@example.com/a": false, "http:///a": false, "http:a": false, "ftp://example.com/a": false,
	} {
		if _, err := CheckArchive(url); (err == nil) != good {
			t.Errorf("an archive at %s: %v", url, err)
		}
	}
	if _, err := newClient(t, nil).ArchiveText(t.Context(), "http://192.168.1.1/a"); !errors.As(err, new(address.Error)) {
		t.Errorf("a private address: %v", err)
	}
	if _, err := newClient(t, nil).First(t.Context(), "http://example.com/a"); err == nil || !strings.HasSuffix(err.Error(), "only https is used") {
		t.Errorf("a file without a sum by http: %v", err)
	}
	if _, err := newClient(t, nil).First(t.Context(), "https://192.168.1.1/a"); !errors.As(err, new(address.Error)) {
		t.Errorf("a private address: %v", err)
	}
}

// A server that is busy at first is asked again.
func TestTriesAgain(t *testing.T) {
	var n atomic.Int32
	at, requests := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, "content")
	})
	if text, err := newClient(t, nil).Text(t.Context(), at); err != nil || text != "content" || requests.Load() != 3 {
		t.Errorf("%q, %v; %d requests", text, err, requests.Load())
	}
}

// Sum reads the forms in which projects publish sums.
func TestSum(t *testing.T) {
	a, b := sumOf("a"), sumOf("b")
	for _, c := range []struct{ list, want string }{
		{a + "  app.tar.gz\n" + b + "  other\n", a},
		{b + "  other\r\n" + a + " *app.tar.gz\r\n", a},
		{strings.ToUpper(a) + "  ./app.tar.gz", a},
		{a + "\n", a},
		{a + "\n" + b + "\n", ""},
		{"SHA256 (app.tar.gz) = " + a + "\nSHA256 (other) = " + b, a},
		{a + "  app.tar.gz\n" + b + "  app.tar.gz\n", ""},
		{b + "  other\n", ""},
		{b + "  app.tar.gz.sig\n", ""},
		{"abc  app.tar.gz\n", ""},
		{"<html>", ""},
		{"", ""},
	} {
		if got, ok := Sum(c.list, "app.tar.gz"); got != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q, %t", c.list, got, ok)
		}
	}
}

// A login goes to the host that the URL names, and not to where that redirects.
func TestLogin(t *testing.T) {
	var elsewhere, here atomic.Value
	other, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		elsewhere.Store(r.Header.Get("Authorization"))
		fmt.Fprint(w, "content")
	})
	at, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case user != "me" || password != "s3cret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/away":
			http.Redirect(w, r, other+"/file", http.StatusFound)
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/file", http.StatusFound)
		default:
			here.Store(user)
			fmt.Fprint(w, "content")
		}
	})
	c := newClient(t, nil)
	if _, err := c.First(t.Context(), at+"/file"); err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(hint.Of(err), ".netrc") {
		t.Errorf("without a login: %v", err)
	}
	var hosts []string
	c.Login = func(host string) (string, string) {
		hosts = append(hosts, host)
		return "me", "s3cret"
	}
	for _, path := range []string{"/file", "/moved", "/away"} {
		if sum, err := c.First(t.Context(), at+path); err != nil || sum != sumOf("content") {
			t.Errorf("%s: %s, %v", path, sum, err)
		}
	}
	if here.Load() != "me" || elsewhere.Load() != "" {
		t.Errorf("here %v, elsewhere %q", here.Load(), elsewhere.Load())
	}
	for _, host := range hosts {
		if host != "127.0.0.1" {
			t.Errorf("asked for the login of %s", host)
		}
	}
}

// Both forms of signatures of minisign are read; a long file needs the newer one.
func TestVerifyMinisign(t *testing.T) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, long := filepath.Join(t.TempDir(), "short"), filepath.Join(t.TempDir(), "long")
	content := map[string][]byte{short: []byte("content"), long: make([]byte, maxText+1)}
	for file, b := range content {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	older := func(file string) string { return string(minisign.Sign(private, content[file])) }
	newer := func(file string) string {
		r := minisign.NewReader(bytes.NewReader(content[file]))
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		return string(r.Sign(private))
	}
	for _, c := range []struct{ key, file, signature, want string }{
		{public.String(), short, older(short), ""},
		{public.String(), short, newer(short), ""},
		{public.String(), long, newer(long), ""},
		{public.String(), short, newer(long), "does not match"},
		{public.String(), short, older(long), "does not match"},
		{public.String(), long, older(long), "more than 4194304 bytes"},
		{public.String(), short, "", "not a signature"},
		{"RW", short, newer(short), "not a public key"},
		{public.String(), short + "-gone", newer(short), "no such file"},
	} {
		err := VerifyMinisign(c.key, c.file, c.signature)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, want %q: %v", filepath.Base(c.file), c.want, err)
		}
	}
}
