package crosscompile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/mabuild/mabuild/crosscompile"
)

// workspace returns a module with two programs and a library, and another module that only
// go.work includes.
func workspace(t *testing.T) string {
	return write(t, map[string]string{
		"go.work":            "go 1.26\n\nuse ./app\nuse ./tools\n",
		"app/go.mod":         "module example.com/app/v2\n\ngo 1.26\n",
		"app/main.go":        mainGo,
		"app/lib/lib.go":     "package lib\n",
		"app/cmd/api/api.go": mainGo,
		"app/empty/README":   "nothing\n",
		"tools/go.mod":       "module example.com/tools\n\ngo 1.26\n",
		"tools/gen/gen.go":   mainGo,
		"nogo/go.mod":        "module example.com/nogo\n\ngo 1.26\n",
	})
}

// Find resolves directories and import paths to one main package, in a module or a
// workspace.
func TestFind(t *testing.T) {
	root := workspace(t)
	for _, c := range []struct{ dir, pattern, name string }{
		{"app", "", "app"},
		{"app", ".", "app"},
		{"app", "./cmd/api", "api"},
		{"app", "cmd/api", "api"},
		{"app/cmd", "../cmd/api", "api"},
		{".", "./app/cmd/api", "api"},
		{"app", filepath.Join(root, "tools/gen"), "gen"},
		{"app", "example.com/app/v2/cmd/api", "api"},
		{"app", "example.com/app/v2", "app"},
		{"app", "example.com/tools/gen", "gen"}, // included by go.work
	} {
		p, err := new(crosscompile.Go).Find(t.Context(), crosscompile.Query{Dir: filepath.Join(root, c.dir), Pattern: c.pattern})
		if err != nil || p.Name != c.name {
			t.Errorf("Find(%q in %s) = %+v, %v; want %s", c.pattern, c.dir, p, err, c.name)
		}
	}
}

// Find refuses what is not one main package, with a hint.
func TestFindRefuses(t *testing.T) {
	root := workspace(t)
	for _, c := range []struct{ dir, pattern, reason, way string }{
		{"app", "./lib", "is package lib, not main", "./cmd/api"},
		{"app", "./nowhere", "no such directory", "./cmd/api"},
		{"app", "./empty", "no Go files", "./cmd/api"},
		{"app", "./go.mod", "is a file", "directory"},
		{"app", "./none.go", "no such directory", "./cmd/api"},
		{"app", "example.com/app/v2/none", "example.com/app/v2/none", "./cmd/api"},
		{"nogo", ".", "no Go files", "no main package nearby"},
		{"app", "./...", "is a pattern", "name the main package"},
		{"app", "std", "is a pattern", "name the main package"},
		{"app", "-toolexec=x", "begins with a dash", "directory"},
		{"app", "not a path@v1.0.0", "is not an import path", "module/path@version"},
		{"app", "example.com/x@", "has no version", "@latest"},
	} {
		_, err := new(crosscompile.Go).Find(t.Context(), crosscompile.Query{Dir: filepath.Join(root, c.dir), Pattern: c.pattern, Scratch: t.TempDir()})
		var pe *crosscompile.PackageError
		if !errors.As(err, &pe) {
			t.Errorf("Find(%q) = %v; want a PackageError", c.pattern, err)
			continue
		}
		if !strings.Contains(pe.Error(), c.reason) || !strings.Contains(pe.Hint(), c.way) {
			t.Errorf("Find(%q) = %q, hint %q; want %q and %q", c.pattern, pe, pe.Hint(), c.reason, c.way)
		}
	}
}

// A module of the module proxy is used unchanged: its sums are checked, and nothing in the
// user's directory changes.
func TestFindVersion(t *testing.T) {
	dir, scratch := t.TempDir(), t.TempDir()
	g := &crosscompile.Go{}
	q := crosscompile.Query{Dir: dir, Pattern: "golang.org/x/mod/gosumcheck@v0.42.0", Scratch: scratch}
	p, err := g.Find(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "gosumcheck" || p.Version != "v0.42.0" || p.Module != "golang.org/x/mod" {
		t.Errorf("found %+v", p)
	}
	if _, err := g.Compile(t.Context(), crosscompile.Request{Dir: p.Dir, Package: p.ImportPath, Out: filepath.Join(t.TempDir(), "hello"), Platform: parse(t, "linux/arm64")}); err != nil {
		t.Error(err)
	}
	if sum, err := os.ReadFile(filepath.Join(p.Dir, "go.sum")); err != nil || !strings.Contains(string(sum), "golang.org/x/mod v0.42.0 h1:") {
		t.Errorf("go.sum is %q, %v", sum, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the user's directory has %v, %v", entries, err)
	}
	if again, err := new(crosscompile.Go).Find(t.Context(), q); err != nil || again != p {
		t.Errorf("found %+v, %v the second time", again, err)
	}
}

// proxy serves modules from files, in the layout of GOPROXY=file://….
func proxy(t *testing.T, path, version string, files map[string]string) *crosscompile.Go {
	t.Helper()
	src, dir := write(t, files), t.TempDir()
	at := filepath.Join(dir, path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := zip.CreateFromDir(archive, module.Version{Path: path, Version: version}, src); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"list": version + "\n", version + ".mod": files["go.mod"], version + ".info": `{"Version":"` + version + `"}`,
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cache := filepath.Join(t.TempDir(), "modules")
	return &crosscompile.Go{Environ: append(os.Environ(), "GOPROXY=file://"+dir, "GOSUMDB=off", "GOMODCACHE="+cache, "GOFLAGS=-modcacherw")}
}

// A module with replace directives is an error, unless it is built as the main module.
func TestFindVersionRefusesReplaceUnlessItIsMain(t *testing.T) {
	g := proxy(t, "example.com/old", "v1.2.3", map[string]string{
		"go.mod":            "module example.com/old\n\ngo 1.26\n\nrequire example.com/word v0.0.0\n\nreplace example.com/word => ./word\n",
		"main.go":           "package main\n\nimport \"example.com/word\"\n\nfunc main() { println(word.Word) }\n",
		"word/word.go":      "package word\n\nconst Word = \"hi\"\n",
		"wordmod/README.md": "",
	})
	q := crosscompile.Query{Pattern: "example.com/old@v1.2.3", Scratch: t.TempDir()}
	_, err := g.Find(t.Context(), q)
	var pe *crosscompile.PackageError
	if !errors.As(err, &pe) || len(pe.Ignored) == 0 {
		t.Fatalf("got %v, ignored %v", err, pe)
	}
}

// A module that is built as the main module uses its replace directives.
func TestFindVersionAsMain(t *testing.T) {
	g := proxy(t, "example.com/old", "v1.2.3", map[string]string{
		"go.mod":     "module example.com/old\n\ngo 1.26\n\nexclude example.com/word v0.1.0\n",
		"cmd/x/x.go": mainGo,
	})
	q := crosscompile.Query{Pattern: "example.com/old/cmd/x@latest", Scratch: t.TempDir(), AsMain: true}
	p, err := g.Find(t.Context(), q)
	if err != nil || p.Name != "x" || p.Version != "v1.2.3" {
		t.Fatalf("found %+v, %v", p, err)
	}
	if _, err := g.Compile(t.Context(), crosscompile.Request{Dir: p.Dir, Package: p.ImportPath, Out: filepath.Join(t.TempDir(), "x"), Platform: parse(t, "linux/riscv64")}); err != nil {
		t.Error(err)
	}
}

// The error for a missing module or version names it.
func TestFindVersionThatDoesNotExist(t *testing.T) {
	g := proxy(t, "example.com/old", "v1.2.3", map[string]string{"go.mod": "module example.com/old\n\ngo 1.26\n", "lib.go": "package old\n"})
	for pattern, want := range map[string]string{
		"example.com/old@v9.9.9": "v9.9.9",
		"example.com/new@latest": "example.com/new",
		"example.com/old@v1.2.3": "is package old, not main",
	} {
		_, err := g.Find(t.Context(), crosscompile.Query{Pattern: pattern, Scratch: t.TempDir()})
		var pe *crosscompile.PackageError
		if !errors.As(err, &pe) || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%s) = %v; want %q", pattern, err, want)
		}
	}
}

// The path of a Go file selects its package.
func TestFindFile(t *testing.T) {
	root := workspace(t)
	for pattern, want := range map[string]string{"./cmd/api/api.go": "./cmd/api", "cmd/api/api.go": "./cmd/api"} {
		p, err := new(crosscompile.Go).Find(t.Context(), crosscompile.Query{Dir: filepath.Join(root, "app"), Pattern: pattern})
		if err != nil || p.ImportPath != want || p.Name != "api" {
			t.Errorf("%s: %+v, %v", pattern, p, err)
		}
	}
}
