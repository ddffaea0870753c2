package crosscompile_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
)

// environment returns this process's environment without Go's settings for modules, and
// with the given variables.
func environment(t *testing.T, set ...string) []string {
	t.Helper()
	all := append(os.Environ(), "GOPROXY=", "GOPRIVATE=", "GONOPROXY=", "GONOSUMDB=", "GOSUMDB=off", "GOFLAGS=-modcacherw",
		"GOMODCACHE="+t.TempDir(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "GIT_CONFIG_NOSYSTEM=1")
	return append(all, set...)
}

// Find fetches from a module proxy with a password from the file in NETRC, and over TLS
// with an authority from SSL_CERT_FILE.
func TestPrivateProxy(t *testing.T) {
	const path, version = "private.example.com/tool", "v1.2.3"
	files := proxy(t, path, version, map[string]string{"go.mod": "module " + path + "\n\ngo 1.26\n", "main.go": mainGo})
	dir := ""
	for _, kv := range files.Environ {
		if at, ok := strings.CutPrefix(kv, "GOPROXY=file://"); ok {
			dir, _, _ = strings.Cut(at, ",")
		}
	}
	var refused atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "engineer" || password != "s3cret" {
			refused.Add(1)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
	defer server.Close()
	at := t.TempDir()
	ca, netrc := filepath.Join(at, "ca.pem"), filepath.Join(at, "netrc")
	host := strings.TrimPrefix(server.URL, "https://") // Go looks up host and port in netrc
	for file, content := range map[string]string{
		ca:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		netrc: "machine " + host + " login engineer password s3cret\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := crosscompile.Query{Pattern: path + "@" + version}
	for _, c := range []struct {
		netrc string
		found bool
	}{{filepath.Join(at, "none"), false}, {netrc, true}} {
		q.Scratch = t.TempDir()
		g := &crosscompile.Go{Environ: environment(t, "GOPROXY="+server.URL, "SSL_CERT_FILE="+ca, "NETRC="+c.netrc)}
		if p, err := g.Find(t.Context(), q); (err == nil) != c.found {
			t.Errorf("NETRC=%s: %+v, %v", c.netrc, p, err)
		}
	}
	if refused.Load() == 0 {
		t.Error("the proxy refused no request")
	}
}

// Find fetches with git if GOPRIVATE says so, and uses the user's git configuration.
func TestPrivateRepository(t *testing.T) {
	const path = "git.example.com/acme/tool.git"
	repository := write(t, map[string]string{"go.mod": "module " + path + "\n\ngo 1.26\n", "main.go": mainGo})
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one"}, {"tag", "v1.0.0"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = repository
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	leads := []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url." + repository + ".insteadOf", "GIT_CONFIG_VALUE_0=https://git.example.com/acme/tool"}
	// the same setting in a file
	home := write(t, map[string]string{".gitconfig": "[url \"" + repository + "\"]\n\tinsteadOf = https://git.example.com/acme/tool\n"})
	for name, set := range map[string][]string{
		"variables": append(leads, "GOPRIVATE=git.example.com/*"),
		"file":      {"HOME=" + home, "GOPRIVATE=git.example.com/*"},
		"written":   {"HOME=" + home, "GOENV=" + filepath.Join(write(t, map[string]string{"env": "GOPRIVATE=git.example.com\n"}), "env")},
	} {
		environ := environment(t, append(set, "GOPROXY=off")...)
		g := &crosscompile.Go{Environ: environ}
		p, err := g.Find(t.Context(), crosscompile.Query{Pattern: path + "@v1.0.0", Scratch: t.TempDir()})
		if err != nil || p.Version != "v1.0.0" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	g := &crosscompile.Go{Environ: environment(t, append(leads, "GOPROXY=off")...)}
	if p, err := g.Find(t.Context(), crosscompile.Query{Pattern: path + "@v1.0.0", Scratch: t.TempDir()}); err == nil {
		t.Errorf("without GOPRIVATE: %+v", p)
	}
}
