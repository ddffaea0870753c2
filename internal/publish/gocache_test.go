package publish

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/gocache"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// What one machine has compiled spares another one the compiler. A compile cache that no
// trusted key has signed, or that is something else, is not used, and this is said once.
func TestCompileCache(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t)
	dir := t.TempDir()
	own, public := secret(t, "o")
	other, otherPublic := secret(t, "f")
	release, _, _ := strings.Cut(runtime.Version(), " ")
	tag := reg.Host + "/cache:gocache-" + release + "-linux-amd64"
	now := func() string {
		t.Helper()
		d, err := new(registry.Client).Resolve(t.Context(), tag)
		if errors.Is(err, manifest.ErrNotFound) {
			return ""
		}
		check(t, err)
		return d.Digest.String()
	}
	repository := func(key ed25519.PrivateKey, trust ...ed25519.PublicKey) *records.Repository {
		return &records.Repository{Name: reg.Host + "/cache", Compile: true, Work: t.TempDir(), Key: key, Trust: trust, Write: true}
	}
	publish := func(r *records.Repository, text string) machine {
		t.Helper()
		regtest.Lay(t, dir, map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(\"" + text + "\") }\n"})
		m := newMachine(t, r)
		m.Builder.GoCache = r.GoCache
		m.must(t, dir, "amd64", reg.Host+"/app:"+text)
		r.StoreGoCaches(t.Context())
		return m
	}
	publish(repository(own), "one")
	first := now()
	if first == "" {
		t.Fatal("no compile cache was stored")
	}
	// Little of what this machine uses is new, so nothing is stored.
	if m := publish(repository(own, public), "two"); now() != first || m.warnings.Len() > 0 {
		t.Errorf("%s, was %s; %s", now(), first, m.warnings)
	}

	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for what, c := range map[string]struct {
		r       *records.Repository
		warning string // "": it is used
	}{
		"the key is trusted":     {r: repository(nil, otherPublic, public)},
		"nothing is required":    {r: repository(nil)},
		"another key is trusted": {r: repository(nil, otherPublic), warning: "no trusted key has signed"},
		// Its signature of a record would vouch for what others have compiled.
		"it signs with another key": {r: repository(other), warning: "no trusted key has signed"},
	} {
		m := newMachine(t, c.r)
		at := c.r.GoCache(t.Context(), release, p)
		if again := c.r.GoCache(t.Context(), release, p); again != at || at == "" {
			t.Errorf("%s: %q and %q", what, at, again)
		}
		lines := 1
		if c.warning == "" {
			lines = 0
		}
		if used := !gocache.Empty(at); used == (lines == 1) || strings.Count(m.warnings.String(), "\n") != lines || !strings.Contains(m.warnings.String(), c.warning) {
			t.Errorf("%s: used %t; %s", what, used, m.warnings)
		}
	}
	check(t, new(registry.Client).Put(t.Context(), tag, regtest.Image(t, "amd64", 100, 1)))
	r := repository(nil)
	m := newMachine(t, r)
	if at := r.GoCache(t.Context(), release, p); !gocache.Empty(at) || !strings.Contains(m.warnings.String(), "it is not a compile cache") {
		t.Errorf("an image is used: %s", m.warnings)
	}
	// Another release or platform has another cache, and one that was unpacked with less trust is
	// not used with more.
	dirs := map[string]bool{}
	work := t.TempDir()
	for _, r := range []*records.Repository{repository(nil), repository(nil, public), repository(own)} {
		r.Work = work
		newMachine(t, r)
		for _, arch := range []string{"amd64", "arm64"} {
			for _, release := range []string{"go1.1", "go1.2"} {
				dirs[r.GoCache(t.Context(), release, ocispec.Platform{OS: "linux", Architecture: arch})] = true
			}
		}
	}
	if made, err := os.ReadDir(work); err != nil || len(made) != len(dirs) || len(dirs) != 8 {
		t.Errorf("%v: %v", dirs, err)
	}
	for at := range dirs {
		if filepath.Dir(at) != work {
			t.Errorf("%s is elsewhere", at)
		}
	}
}
