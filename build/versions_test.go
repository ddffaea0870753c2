package build_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
)

// toolPath is the module that toolProxy serves.
const toolPath = "example.com/tool"

// toolProxy creates a module proxy of files. It serves a program that prints its version,
// in each of the versions. It returns the environment that uses the proxy.
func toolProxy(t *testing.T, versions ...string) []string {
	t.Helper()
	proxy := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(proxy, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at := toolPath + "/@v/"
	put(at+"list", strings.Join(versions, "\n")+"\n")
	for _, version := range versions {
		mod := "module " + toolPath + "\n\ngo 1.26\n"
		put("src/"+version+"/go.mod", mod)
		put("src/"+version+"/main.go", "package main\n\nfunc main() { println(\""+version+"\") }\n")
		put(at+version+".mod", mod)
		put(at+version+".info", `{"Version":"`+version+`"}`)
		archive, err := os.Create(filepath.Join(proxy, filepath.FromSlash(at), version+".zip"))
		if err != nil {
			t.Fatal(err)
		}
		if err := zip.CreateFromDir(archive, module.Version{Path: toolPath, Version: version}, filepath.Join(proxy, "src", version)); err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(proxy), "GOSUMDB=off", "GOENV=off", "GOWORK=",
		"GOMODCACHE="+filepath.Join(t.TempDir(), "modules"), "GOFLAGS=-modcacherw")
}

// A package with @version is built in that version, whatever go.work or the user's settings
// say. This also holds if a build record exists and the program is compiled again, since
// the record does not contain the version: the directory decides.
func TestVersionsStandAlone(t *testing.T) {
	environ := toolProxy(t, "v1.0.0", "v1.1.0")
	top := t.TempDir()
	for name, text := range map[string]string{
		"go.work":     "go 1.26\n\nuse ./app\n",
		"app/go.mod":  "module example.com/app\n\ngo 1.26\n\ntool " + toolPath + "\n\nrequire " + toolPath + " v1.1.0\n",
		"app/main.go": "package main\n\nfunc main() {}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tidy := exec.CommandContext(t.Context(), "go", "mod", "tidy")
	tidy.Dir, tidy.Env = filepath.Join(top, "app"), append(slices.Clone(environ), "GOWORK=off")
	if out, err := tidy.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, set := range map[string]string{
		"a go.work above": "",
		"GOWORK":          "GOWORK=" + filepath.Join(top, "go.work"),
		"-mod=vendor":     "GOFLAGS=-modcacherw -mod=vendor",
	} {
		for _, asMain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, as main %t", name, asMain), func(t *testing.T) {
				w := versioned{dir: filepath.Join(top, "app"), cache: filepath.Join(top, "cache", t.Name()), environ: append(slices.Clone(environ), set), asMain: asMain}
				w.prove(t)
			})
		}
	}
}

// versioned builds toolPath@v1.0.0 repeatedly.
type versioned struct {
	dir, cache string
	environ    []string
	asMain     bool
}

// build builds with a new Builder. It returns the image's digest and the version of the
// tool in it.
func (w versioned) build(t *testing.T, cache string, change func(*build.Spec)) (digest, version string, compiled bool) {
	t.Helper()
	b := build.Builder{Work: t.TempDir(), Cache: cache, Go: &crosscompile.Go{Environ: w.environ}}
	s := build.Spec{Program: build.GoPackage{Package: toolPath + "@v1.0.0", AsMain: w.asMain}, Dir: w.dir, Base: build.Scratch, Platforms: parse(t, "linux/amd64")}
	change(&s)
	r, err := b.Build(t.Context(), s, build.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.Index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	info, err := r.Images[0].BuildInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	version = info.Main.Version
	for _, dep := range info.Deps {
		if dep.Path == toolPath {
			version = dep.Version
		}
	}
	return h.String(), version, r.Images[0].Binary.Path != ""
}

// prove makes builds with one cache that differ only in their layers. The program comes
// from a build record or is compiled again, and is the same as without a cache.
func (w versioned) prove(t *testing.T) {
	changes := map[string]func(*build.Spec){
		"2 zstd":  func(s *build.Spec) { s.Compression.Format = build.Zstd },
		"3 time":  func(s *build.Spec) { s.Time = time.Unix(1, 0) },
		"1 first": func(*build.Spec) {},
		"4 again": func(*build.Spec) {},
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		time.Sleep(60 * time.Millisecond) // past the clock's granularity; younger files are not recorded
		want, of, _ := w.build(t, "", changes[name])
		got, version, compiled := w.build(t, w.cache, changes[name])
		if got != want || version != of {
			t.Errorf("%s: digest %s with version %s; without a cache %s with %s", name, got, version, want, of)
		}
		if !w.asMain && version != "v1.0.0" {
			t.Errorf("%s: the version is %s", name, version)
		}
		if name == "4 again" && compiled {
			t.Errorf("%s: the program was compiled again", name)
		}
	}
}
