//go:build unix

package unchanged

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mabuild/mabuild/crosscompile"
)

// put writes files below dir, by name.
func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// keyed returns the key of a package, "" if there is none.
func keyed(t *testing.T, environ []string, dir, pkg string, tags ...string) string {
	t.Helper()
	s := &Store{Go: &crosscompile.Go{Environ: append(os.Environ(), append([]string{"GOFLAGS=", "GOWORK=", "GOENV=off", "GOTOOLCHAIN=local"}, environ...)...)}}
	found, err := s.Sources(dir, pkg, tags)
	if err != nil {
		t.Logf("%s: %v", pkg, err)
		return ""
	}
	return found.Key()
}

// module is a module with two programs, and what a program can be compiled from.
var module = map[string]string{
	"go.mod":               "module example.com/app\n\ngo 1.26\n\nrequire (\n\texample.com/lib v0.0.0\n\texample.com/far v1.2.3\n)\n\nreplace example.com/lib => ./lib\n",
	"go.sum":               "example.com/far v1.2.3 h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
	"README.md":            "read me",
	"cmd/api/main.go":      "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.com/app/used\"\n\t\"example.com/far\"\n\t\"example.com/lib\"\n)\n\n//go:embed text \"web\"\nvar text string\n\nfunc main() { println(text, used.V, lib.V, far.V) }\n",
	"cmd/api/windows.go":   "//go:build windows\n\npackage main\n\nimport _ \"example.com/app/onwindows\"\n",
	"cmd/api/gen.go":       "//go:build ignore\n\npackage main\n\nimport _ \"example.com/app/unused\"\n",
	"cmd/api/main_test.go": "package main\n",
	"cmd/api/text":         "text",
	"cmd/api/web/a.txt":    "a",
	"cmd/other/main.go":    "package main\n\nfunc main() {}\n",
	"used/used.go":         "package used\n\nconst V = 1\n",
	"used/asm_amd64.s":     "#include \"textflag.h\"\n#include \"own.inc\"\n",
	"used/own.inc":         "own",
	"used/sub/go.mod":      "module example.com/app/used/sub\n\ngo 1.26\n",
	"onwindows/w.go":       "package onwindows\n",
	"unused/unused.go":     "package unused\n",
	"lib/go.mod":           "module example.com/lib\n\ngo 1.26\n",
	"lib/lib.go":           "package lib\n\nconst V = 1\n",
}

// The key changes with everything that may change the program, on any platform, and with
// nothing else.
func TestKeyChangesWithTheSources(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, module)
	last := keyed(t, nil, dir, "./cmd/api")
	if last == "" {
		t.Fatal("no key")
	}
	for _, c := range []struct {
		name, content string
		changes       bool
	}{
		{"README.md", "another", false},
		{"cmd/api/main_test.go", "package main\n\n// another\n", false},
		{"cmd/api/gen.go", "//go:build ignore\n\npackage main\n", false},
		{"cmd/other/main.go", "package main\n\nfunc main() { println() }\n", false},
		{"unused/unused.go", "package unused\n\n// another\n", false},
		{"unused/new.go", "package unused\n", false},
		{"used/_off.go", "package used\n", false},
		{"used/sub/sub.go", "package sub\n", false},
		{"cmd/api/main.go", module["cmd/api/main.go"] + "\n// a comment\n", true},
		{"cmd/api/text", "another", true},
		{"cmd/api/web/a.txt", "another", true},
		{"cmd/api/web/b.txt", "new", true},
		{"cmd/api/default.pgo", "profile", true},
		{"used/used.go", "package used\n\nconst V = 2\n", true},
		{"used/new_plan9.go", "package used\n", true},
		{"used/own.inc", "another", true},
		{"used/rsrc_windows.syso", "resource", true},
		{"onwindows/w.go", "package onwindows\n\n// another\n", true},
		{"lib/lib.go", "package lib\n\nconst V = 2\n", true},
		{"lib/go.mod", "module example.com/lib\n\ngo 1.25\n", true},
		{"go.sum", module["go.sum"] + "example.com/far v1.2.3/go.mod h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", true},
		{"go.mod", module["go.mod"] + "\n// a comment\n", true},
		{"vendor/modules.txt", "# example.com/far v1.2.3\n", true},
		{"vendor/example.com/far/far.go", "package far\n\nconst V = 1\n", true},
		{"vendor/example.com/near/near.go", "package near\n", false},
		{"used/go.mod", "module example.com/app/used\n\ngo 1.26\n", true},
		{"go.work", "go 1.26\n\nuse .\n", true},
		{"go.work.sum", "example.com/x v1.0.0 h1:x=\n", true},
	} {
		put(t, dir, map[string]string{c.name: c.content})
		got := keyed(t, nil, dir, "./cmd/api")
		if got == "" || got != last != c.changes {
			t.Errorf("%s: the key is %q and was %q, want a change: %t", c.name, got, last, c.changes)
		}
		last = got
	}
	if got := keyed(t, []string{"GOFLAGS=-tags=ignore"}, dir, "./cmd/api"); got == last || got == "" {
		t.Error("a build tag of GOFLAGS does not change the key")
	}
	if a, b := keyed(t, []string{"GOFLAGS=-p=3"}, dir, "./cmd/api"), keyed(t, []string{"GOPROXY=off", "EDITOR=vi"}, dir, "./cmd/api"); a != last || b != last {
		t.Errorf("settings that change no program: %s and %s, want %s", a, b, last)
	}
}

// Equal content has the same key in another directory, with other times and modes, as
// another user, through a link, from another working directory, and in a worktree of git.
func TestEqualContentHasTheSameKey(t *testing.T) {
	first, second := t.TempDir(), filepath.Join(t.TempDir(), "else", "where")
	put(t, first, module)
	old := syscall.Umask(0o077)
	put(t, second, module)
	syscall.Umask(old)
	put(t, second, map[string]string{".git": "gitdir: /nowhere\n"})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(filepath.WalkDir(second, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = errors.Join(os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)), os.Chmod(path, 0o444))
		}
		if err == nil && os.Getuid() == 0 {
			err = os.Lchown(path, 65532, 65532)
		}
		return err
	}))
	link := filepath.Join(t.TempDir(), "link")
	must(os.Symlink(first, link))
	// A shallow clone and a worktree of a repository with two commits.
	origin, clone, tree := t.TempDir(), filepath.Join(t.TempDir(), "clone"), filepath.Join(t.TempDir(), "tree")
	put(t, origin, map[string]string{"go.mod": "module example.com/old\n"})
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", origin, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.hooksPath=/dev/null"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	put(t, origin, module)
	git("add", "-f", ".")
	git("commit", "-q", "-m", "two")
	git("clone", "-q", "--depth", "1", "file://"+origin, clone)
	git("worktree", "add", "-q", "--detach", tree, "main")
	want := keyed(t, nil, first, "./cmd/api")
	for _, c := range []struct{ dir, pkg string }{
		{clone, "./cmd/api"},
		{tree, "./cmd/api"},
		{second, "./cmd/api"},
		{second, "cmd/api"},
		{link, "./cmd/api"},
		{filepath.Join(second, "cmd"), "./api"},
		{filepath.Join(second, "cmd/api"), ""},
		{t.TempDir(), filepath.Join(first, "cmd/api")},
		{filepath.Join(first, "used"), "../cmd/api"},
		{second, "example.com/app/cmd/api"},
		{filepath.Join(first, "used"), "example.com/app/cmd/api"},
	} {
		if got := keyed(t, nil, c.dir, c.pkg); got != want || got == "" {
			t.Errorf("%s in %s: %q, want %q", c.pkg, c.dir, got, want)
		}
	}
}

// Two copies of a package have another key if they change places, since the go command uses
// one of them.
func TestSwappedCopiesHaveAnotherKey(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	a, b := "package lib\n\nconst V = 1\n", "package lib\n\nconst V = 2\n"
	for dir, swapped := range map[string][2]string{one: {a, b}, two: {b, a}} {
		put(t, dir, module)
		put(t, dir, map[string]string{"vendor/modules.txt": "# example.com/lib v0.0.0 => ./lib\n", "lib/lib.go": swapped[0], "vendor/example.com/lib/lib.go": swapped[1]})
	}
	if x, y := keyed(t, nil, one, "./cmd/api"), keyed(t, nil, two, "./cmd/api"); x == y || x == "" {
		t.Errorf("both keys are %q", x)
	}
}

// A version of a module has a key without the module, if the checksum database pins it.
func TestVersionsHaveKeys(t *testing.T) {
	verified := []string{"GOSUMDB=sum.golang.org", "GONOSUMDB=", "GOPRIVATE=", "GOINSECURE="}
	want := keyed(t, verified, t.TempDir(), "example.com/app/cmd@v1.2.3")
	if again := keyed(t, verified, t.TempDir(), "example.com/app/cmd@v1.2.3"); again != want || want == "" {
		t.Errorf("the keys are %q and %q", want, again)
	}
	if other := keyed(t, verified, t.TempDir(), "example.com/app/cmd@v1.2.4"); other == want {
		t.Error("another version has the same key")
	}
	for _, pkg := range []string{"example.com/app/cmd@latest", "example.com/app/cmd@v1", "example.com/app/cmd@main"} {
		if key := keyed(t, verified, t.TempDir(), pkg); key != "" {
			t.Errorf("%s has the key %s", pkg, key)
		}
	}
	for _, set := range []string{"GOSUMDB=off", "GONOSUMDB=example.org", "GOPRIVATE=example.org", "GOINSECURE=example.org"} {
		if key := keyed(t, append(verified, set), t.TempDir(), "example.com/app/cmd@v1.2.3"); key != "" {
			t.Errorf("with %s the key is %s", set, key)
		}
	}
}

// There is no key if something else than the listed files may feed the build.
func TestNoKey(t *testing.T) {
	for _, c := range []struct {
		what    string
		files   map[string]string
		environ []string
		pkg     string
	}{
		{what: "a newer Go is required", files: map[string]string{"lib/go.mod": "module example.com/lib\n\ngo 1.99\n"}},
		{what: "a newer toolchain is named", files: map[string]string{"go.mod": module["go.mod"] + "\ntoolchain go1.99.1\n"}, environ: []string{"GOTOOLCHAIN=auto"}},
		{what: "another toolchain is set", environ: []string{"GOTOOLCHAIN=go1.25.1"}},
		{what: "go.sum may change", environ: []string{"GOFLAGS=-mod=mod"}},
		{what: "another GOROOT", environ: []string{"GOROOT=/nowhere"}},
		{what: "an include with a directory", files: map[string]string{"used/asm_amd64.s": "#include \"../x.h\"\n"}},
		{what: "the package is not main", pkg: "./used"},
		{what: "a pattern", pkg: "./cmd/..."},
		{what: "a version", pkg: "example.com/app@latest"},
		{what: "no directory", pkg: "./nowhere"},
		{what: "a package of another module", pkg: "example.com/far/cmd"},
		{what: "a package of a replaced module", pkg: "example.com/lib"},
		{what: "a file that cannot be parsed", files: map[string]string{"used/x.go": "pack"}},
	} {
		dir := t.TempDir()
		put(t, dir, module)
		put(t, dir, c.files)
		if c.pkg == "" {
			c.pkg = "./cmd/api"
		}
		if key := keyed(t, c.environ, dir, c.pkg); key != "" {
			t.Errorf("%s: the key is %s", c.what, key)
		}
	}
	for link, target := range map[string]string{"used/out.go": "../../outside.go", "used": "../elsewhere"} {
		dir := t.TempDir()
		put(t, dir, map[string]string{"outside.go": "package used\n", "elsewhere/used.go": "package used\n\nconst V = 1\n"})
		put(t, filepath.Join(dir, "app"), module)
		at := filepath.Join(dir, "app", link)
		if err := errors.Join(os.RemoveAll(at), os.Symlink(target, at)); err != nil {
			t.Fatal(err)
		}
		if key := keyed(t, nil, filepath.Join(dir, "app"), "./cmd/api"); key != "" {
			t.Errorf("a link %s leaves the module: the key is %s", link, key)
		}
	}
}

// A change of a file is seen even if the file is changed back, and a file that the go
// command reads and that is not among the sources is reported.
func TestSourcesAreProved(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, module)
	s := &Store{Go: &crosscompile.Go{}}
	list := func() *Sources {
		t.Helper()
		found, err := s.Sources(dir, "./cmd/api", nil)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before, ok := list().Settled(func() (*Sources, error) { return list(), nil })
	if !ok {
		if os.Getenv("CI") != "" {
			t.Fatal("the file system of CI has no reliable times, so this proves nothing")
		}
		t.Skip("the file system has no reliable times")
	}
	if !before.Same(list()) {
		t.Error("nothing has changed, but it seems so")
	}
	file := filepath.Join(dir, "used/used.go")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, map[string]string{"used/used.go": "package used\n\nconst V = 2\n"})
	put(t, dir, map[string]string{"used/used.go": module["used/used.go"]})
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if after := list(); before.Same(after) || before.Key() != after.Key() {
		t.Error("a file that was changed back has another key, or was not seen")
	}
	before = list()
	put(t, dir, map[string]string{"used/new.go": "package used\n"})
	if err := os.Remove(filepath.Join(dir, "used/new.go")); err != nil {
		t.Fatal(err)
	}
	if before.Same(list()) {
		t.Error("a file that appeared and vanished was not seen")
	}
	if err := before.Has([]string{file, filepath.Join(dir, "cmd/api/text")}); err != nil {
		t.Error(err)
	}
	if err := before.Has([]string{file, filepath.Join(dir, "unused/unused.go")}); err == nil {
		t.Error("a file that is not among the sources was not reported")
	}
}

// The packages are those that the go command lists over all platforms.
func TestPackagesAreGosOwn(t *testing.T) {
	own, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{own: "./cmd/mabuild"}
	// A module without requirements, as the proxy has it.
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/klauspost/compress").Output()
	if err != nil {
		t.Fatal(err)
	}
	compress := t.TempDir()
	if err := os.CopyFS(compress, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		t.Fatal(err)
	}
	programs[compress] = "./s2/cmd/s2c"
	for dir, pkg := range programs {
		comparePackages(t, dir, pkg)
	}
}

// comparePackages compares the packages of a program with those of go list.
func comparePackages(t *testing.T, dir, pkg string) {
	t.Helper()
	start := time.Now()
	s := &Store{Go: &crosscompile.Go{}}
	found, err := s.Sources(dir, pkg, nil)
	if err != nil {
		t.Errorf("%s in %s: %v", pkg, dir, err)
		return
	}
	t.Logf("%s in %s: %d packages, %d files, %v", pkg, dir, len(found.Packages), len(found.Files), time.Since(start).Round(time.Millisecond))
	want := map[string]bool{}
	for _, platform := range []string{"linux/amd64", "linux/arm64", "linux/s390x", "linux/386", "windows/amd64", "darwin/arm64", "freebsd/amd64", "netbsd/arm64", "openbsd/amd64", "dragonfly/amd64", "solaris/amd64", "plan9/386", "aix/ppc64", "js/wasm", "wasip1/wasm", "illumos/amd64", "linux/riscv64", "linux/ppc64le"} {
		goos, goarch, _ := strings.Cut(platform, "/")
		cmd := exec.Command("go", "list", "-e", "-deps", "-f", "{{with .Module}}{{if or .Main (and .Replace (not .Replace.Version))}}{{$.ImportPath}}{{end}}{{end}}", pkg)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			return
		}
		for _, name := range strings.Fields(string(out)) {
			want[name] = true
		}
	}
	for _, name := range found.Packages {
		if !want[name] {
			t.Errorf("%s in %s: the go command does not list %s", pkg, dir, name)
		}
		delete(want, name)
	}
	for name := range want {
		if !slices.Contains(found.Packages, name) {
			t.Errorf("%s in %s: %s is missing", pkg, dir, name)
		}
	}
}
