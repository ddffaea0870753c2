package crosscompile_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
)

// counted serves files over HTTP. It returns a go command that uses them, the number of
// requests, and the directory.
func counted(t *testing.T, files *crosscompile.Go) (g func() *crosscompile.Go, requests *atomic.Int64, dir string) {
	t.Helper()
	for _, kv := range files.Environ {
		if at, ok := strings.CutPrefix(kv, "GOPROXY=file://"); ok {
			dir, _, _ = strings.Cut(at, ",")
		}
	}
	requests = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return func() *crosscompile.Go {
		return &crosscompile.Go{Environ: append(slices.Clone(files.Environ), "GOPROXY="+server.URL)}
	}, requests, dir
}

// times returns the modification times of the files below dir.
func times(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[path] = info.ModTime().String()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A version such as latest is looked up each time and built in the directory of the version
// that it resolves to. An exact version is requested once. Files in such a directory do not
// change.
func TestAScratchModuleIsFilledOnce(t *testing.T) {
	for _, asMain := range []bool{false, true} {
		files := proxy(t, "example.com/old", "v1.2.3", map[string]string{"go.mod": "module example.com/old\n\ngo 1.26\n", "main.go": mainGo})
		g, requests, dir := counted(t, files)
		scratch := t.TempDir()
		find := func(version string) crosscompile.Package {
			t.Helper()
			p, err := g().Find(t.Context(), crosscompile.Query{Pattern: "example.com/old@" + version, Scratch: scratch, AsMain: asMain})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		exact := find("v1.2.3")
		want := map[bool]int64{true: 3, false: 5}[asMain] // info, mod, zip; without asMain also the check for example.com and the list
		if n := requests.Swap(0); n != want {
			t.Errorf("an exact version takes %d requests, want %d", n, want)
		}
		before := times(t, exact.Dir)
		if again := find("v1.2.3"); again != exact || requests.Swap(0) != 0 {
			t.Errorf("the second call found %+v or sent a request", again)
		}
		if latest := find("latest"); latest != exact {
			t.Errorf("latest is %+v, want %+v", latest, exact)
		}
		if n := requests.Swap(0); n != 1 { // the list
			t.Errorf("latest takes %d requests if its version is present, want 1", n)
		}
		if err := os.WriteFile(filepath.Join(dir, "example.com/old/@v/list"), []byte("v1.2.3\nv1.3.0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, ext := range []string{".mod", ".info", ".zip"} {
			b, err := os.ReadFile(filepath.Join(dir, "example.com/old/@v/v1.2.3"+ext))
			if err != nil {
				t.Fatal(err)
			}
			b = []byte(strings.ReplaceAll(string(b), "v1.2.3", "v1.3.0")) // the same length, so the zip stays valid
			if err := os.WriteFile(filepath.Join(dir, "example.com/old/@v/v1.3.0"+ext), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if moved := find("latest"); moved.Version != "v1.3.0" || moved.Dir == exact.Dir {
			t.Errorf("latest is %+v", moved)
		}
		if after := times(t, exact.Dir); len(after) != len(before) || len(before) < 2 {
			t.Errorf("%d files became %d", len(before), len(after))
		} else {
			for path, at := range before {
				if after[path] != at {
					t.Errorf("%s was changed", path)
				}
			}
		}
		if left, err := filepath.Glob(filepath.Join(scratch, "ask-*")); err != nil || len(left) > 0 {
			t.Errorf("leftover files %v, %v", left, err)
		}
	}
}

// Use fails for a module that Find made and that is no longer complete. It accepts all
// other directories.
func TestUse(t *testing.T) {
	g := proxy(t, "example.com/old", "v1.2.3", map[string]string{"go.mod": "module example.com/old\n\ngo 1.26\n", "main.go": mainGo})
	scratch := t.TempDir()
	p, err := g.Find(t.Context(), crosscompile.Query{Pattern: "example.com/old@v1.2.3", Scratch: scratch})
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "src")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{p.Dir, own, t.TempDir()} {
		if err := (crosscompile.Package{Dir: dir}).Use(t.Context()); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := os.Remove(filepath.Join(filepath.Dir(p.Dir), "complete")); err != nil {
		t.Fatal(err)
	}
	if err := p.Use(t.Context()); err == nil {
		t.Error("Use accepts an incomplete module")
	}
	if err := os.RemoveAll(filepath.Dir(p.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := p.Use(t.Context()); err == nil {
		t.Error("Use accepts a missing module")
	}
}
