package build_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
)

// world is a workspace that changes at random.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	top     string // has the module app, and the module lib, with which app replaces a requirement
	far     string // has links to both
	dir     string // the directory of app, in top or in far
	environ []string
	spec    build.Spec
	compile build.Compile

	builders map[string]*build.Builder // by cache and environment
	kept     *recalls                  // nil: nothing is kept
	beside   v1.Hash                   // of the program beside, in the last build; zero: it has failed
}

func newWorld(t *testing.T, seed int64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewSource(seed)), top: t.TempDir(), far: t.TempDir(), environ: append(os.Environ(), "GOFLAGS=", "GOWORK=", "GOENV=off"), builders: map[string]*build.Builder{}}
	w.dir = w.at("app")
	w.spec = build.Spec{Base: build.Scratch, Platforms: parse(t, "linux/amd64")}
	w.must(os.Symlink(w.at("app"), filepath.Join(w.far, "app")), os.Symlink(w.at("lib"), filepath.Join(w.far, "lib")))
	w.write("app/go.mod", "module example.com/app\n\ngo 1.26\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../lib\n")
	w.write("app/main.go", "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.com/app/sub\"\n\t\"example.com/lib\"\n)\n\n//go:embed text\nvar text string\n\nvar set string\n\nfunc main() { println(text, set, a, b, linked, sub.S, lib.L, tagged) }\n")
	w.write("app/tag.go", "//go:build !odd\n\npackage main\n\nconst tagged = 1\n")
	w.write("app/odd.go", "//go:build odd\n\npackage main\n\nconst tagged = 2\n")
	w.write("app/beside/main.go", "package main\n\nimport (\n\t\"example.com/app/sub\"\n\t\"example.com/lib\"\n)\n\nfunc main() { println(sub.S, lib.L) }\n")
	w.write("lib/go.mod", "module example.com/lib\n\ngo 1.26\n")
	w.write("other/go.mod", "module example.com/lib\n\ngo 1.26\n") // a go.work can use it instead of lib
	for _, name := range []string{"a", "b"} {
		w.value("app/"+name+".go", "main", name)
	}
	w.value("app/sub/sub.go", "sub", "S")
	w.value("lib/lib.go", "lib", "L")
	w.value("other/lib.go", "lib", "L")
	w.value("app/store/one", "main", "linked")
	w.value("app/store/two", "main", "linked")
	w.link("one", "app/store/now")
	w.link("store/now", "app/linked.go")
	w.write("app/text", "text")
	w.git("init", "-q", "-b", "main")
	w.git("commit", "-q", "--allow-empty", "-m", "none")
	w.git("branch", "other")
	return w
}

func (w *world) at(name string) string { return filepath.Join(w.top, name) }

func (w *world) must(errs ...error) {
	w.t.Helper()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, content string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.at(name)), 0o755), os.WriteFile(w.at(name), []byte(content), 0o644))
}

// value gives a constant a value; all values have the same length.
func (w *world) value(file, pkg, name string) {
	w.t.Helper()
	w.write(file, fmt.Sprintf("package %s\n\nconst %s = %d\n", pkg, name, 100_000+w.rnd.Intn(900_000)))
}

// link makes name a link to target.
func (w *world) link(target, name string) {
	w.t.Helper()
	w.must(os.RemoveAll(w.at(name)), os.MkdirAll(filepath.Dir(w.at(name)), 0o755), os.Symlink(target, w.at(name)))
}

// git runs git in app.
func (w *world) git(args ...string) {
	w.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=w", "-c", "user.email=w@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	cmd.Dir = w.at("app")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

// step makes one random change of files or settings, as users, editors and version control
// make them. It returns a description for the log.
func (w *world) step() string {
	w.t.Helper()
	type step struct {
		what string
		do   func()
	}
	steps := slices.Concat([]step{
		{"nothing", func() {}},
		{"touch", func() { now := time.Now(); w.must(os.Chtimes(w.at("app/a.go"), now, now)) }},
		{"add", func() {
			w.write("app/init.go", fmt.Sprintf("package main\n\nfunc init() { println(%d) }\n", w.rnd.Intn(1000)))
		}},
		{"remove", func() { w.must(os.RemoveAll(w.at("app/init.go"))) }},
		{"rename", func() { w.rename("app/init.go", "app/later.go") }},
		{"rename back", func() { w.rename("app/later.go", "app/init.go"); w.must(os.RemoveAll(w.at("app/later.go"))) }},
		{"a package becomes a module", func() { w.write("app/sub/go.mod", "module example.com/app/sub\n\ngo 1.26\n") }},
		{"no package is a module", func() { w.must(os.RemoveAll(w.at("app/sub/go.mod"))) }},
		{"no package is a module", func() { w.must(os.RemoveAll(w.at("app/sub/go.mod"))) }},
		{"a go.work above", func() { w.write("go.work", "go 1.26\n\nuse ./app\n\nuse ./lib\n") }},
		{"a go.work above with another module", func() { w.write("go.work", "go 1.26\n\nuse ./app\n\nuse ./other\n") }},
		{"a go.work above with another module", func() { w.write("go.work", "go 1.26\n\nuse ./app\n\nuse ./other\n") }},
		{"no go.work above", func() { w.must(os.RemoveAll(w.at("go.work"))) }},
		{"a link within", func() { w.link([]string{"one", "two"}[w.rnd.Intn(2)], "app/store/now") }},
		{"a link to a link", func() { w.link("now", "app/store/then"); w.link("store/then", "app/linked.go") }},
		{"a link out, through a link", func() {
			w.link("..", "app/store/up")
			w.link("up/../outside", "app/store/now")
			w.value("outside", "main", "linked")
		}},
		{"what is outside", func() { w.value("outside", "main", "linked") }},
		{"no link out", func() { w.link("one", "app/store/now"); w.must(os.RemoveAll(w.at("app/store/up"))) }},
		{"no link out", func() { w.link("one", "app/store/now"); w.must(os.RemoveAll(w.at("app/store/up"))) }},
		{"a link to elsewhere", func() { w.link(w.at("lib"), "app/elsewhere") }},
		{"no link to elsewhere", func() { w.must(os.RemoveAll(w.at("app/elsewhere"))) }},
		{"no link to elsewhere", func() { w.must(os.RemoveAll(w.at("app/elsewhere"))) }},
		{"an editor's lock", func() { w.link("somebody@somewhere.1", "app/.#a.go") }},
		{"from far", func() { w.dir = filepath.Join(w.far, "app") }},
		{"from far", func() { w.dir = filepath.Join(w.far, "app") }},
		{"from near", func() { w.dir = w.at("app") }},
		{"commit", func() { w.git("add", "-A"); w.git("commit", "-q", "--allow-empty", "-m", "some") }},
		{"another branch", w.branch},
		{"vendor", func() { w.vendor() }},
		{"no vendor", func() { w.must(os.RemoveAll(w.at("app/vendor"))) }},
		{"no vendor", func() { w.must(os.RemoveAll(w.at("app/vendor"))) }},
		{"another setting", func() { w.environ = append(w.environ, "GOFLAGS=-tags=odd") }},
		{"the setting back", func() { w.environ = append(w.environ, "GOFLAGS=") }},
		{"no workspace", func() { w.environ = append(w.environ, "GOWORK=off") }},
		{"the workspace back", func() { w.environ = append(w.environ, "GOWORK=") }},
		{"a flag", func() { w.compile.Ldflags = []string{"-X main.set=" + strconv.Itoa(w.rnd.Intn(2))} }},
		{"a tag", func() { w.compile.Tags = []string{"odd"} }},
		{"neither", func() { w.compile = build.Compile{} }},
		{"another time", func() { w.spec.Time = time.Unix(int64(w.rnd.Intn(2)), 0) }},
	}, slices.Repeat([]step{{"nothing", func() {}}}, 12), slices.Repeat([]step{{"an edit", func() { w.anEdit()() }}}, 12))
	s := steps[w.rnd.Intn(len(steps))]
	s.do()
	return s.what
}

// anEdit returns a function that changes one file. The size stays the same, and sometimes
// the time.
func (w *world) anEdit() func() {
	edits := []struct{ file, pkg, name string }{
		{"app/a.go", "main", "a"},
		{"app/b.go", "main", "b"},
		{"app/sub/sub.go", "sub", "S"},
		{"app/store/one", "main", "linked"},
		{"app/store/two", "main", "linked"},
		{"lib/lib.go", "lib", "L"},
		{"other/lib.go", "lib", "L"},
		{"other/lib.go", "lib", "L"},
		{"outside", "main", "linked"},
		{"app/vendor/example.com/lib/lib.go", "lib", "L"},
		{"app/text", "", ""},
	}
	e, how := edits[w.rnd.Intn(len(edits))], w.rnd.Intn(4)
	n := 100_000 + w.rnd.Intn(900_000)
	return func() {
		path := w.at(e.file)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		content := fmt.Sprintf("package %s\n\nconst %s = %d\n", e.pkg, e.name, n)
		if e.pkg == "" {
			content = strconv.Itoa(n)
		}
		next := path + ".new"
		switch how {
		case 0: // in place
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
		case 1: // in place, with the former time
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644), os.Chtimes(path, info.ModTime(), info.ModTime()))
		case 2: // another file
			err = errors.Join(err, os.WriteFile(next, []byte(content), 0o644), os.Rename(next, path))
		default: // another file with the same time
			err = errors.Join(err, os.WriteFile(next, []byte(content), 0o644), os.Chtimes(next, info.ModTime(), info.ModTime()), os.Rename(next, path))
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(w.at(from), w.at(to)); !errors.Is(err, fs.ErrNotExist) {
		w.must(err)
	}
}

// branch commits the current state and switches to the other branch.
func (w *world) branch() {
	w.t.Helper()
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", "some")
	head, err := os.ReadFile(w.at("app/.git/HEAD"))
	w.must(err)
	if string(head) == "ref: refs/heads/main\n" {
		w.git("checkout", "-q", "-f", "other")
		if _, err := os.Stat(w.at("app/main.go")); err != nil { // the branch has no files yet
			w.git("merge", "-q", "main")
		}
		return
	}
	w.git("checkout", "-q", "-f", "main")
}

// vendor copies lib into app's vendor directory.
func (w *world) vendor() {
	w.t.Helper()
	w.must(os.RemoveAll(w.at("app/vendor")))
	w.write("app/vendor/modules.txt", "# example.com/lib v0.0.0 => ../lib\n## explicit; go 1.26\nexample.com/lib\n# example.com/lib => ../lib\n")
	w.value("app/vendor/example.com/lib/lib.go", "lib", "L")
}

// repair removes the changes that may keep the program from compiling.
func (w *world) repair() {
	w.t.Helper()
	for _, name := range []string{"app/sub/go.mod", "app/vendor", "app/later.go"} {
		w.must(os.RemoveAll(w.at(name)))
	}
	w.link("one", "app/store/now")
}

// settle leaves a workspace that a build record can describe completely, with a new edit.
func (w *world) settle() {
	w.t.Helper()
	w.repair()
	for _, name := range []string{"go.work", "app/store/up", "app/elsewhere"} {
		w.must(os.RemoveAll(w.at(name)))
	}
	w.link("store/now", "app/linked.go")
	w.value("app/a.go", "main", "a")
}

// besides builds the other program of the module, which the go command may compile together
// with the first. The returned function waits for it.
func (w *world) besides(b *build.Builder, s build.Spec, h build.Hooks) (wait func()) {
	s.Program = build.GoPackage{Package: "./beside", Compile: w.compile}
	w.beside = v1.Hash{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r, err := b.Build(w.t.Context(), s, h); err == nil {
			w.beside, err = r.Index.Digest()
			if err != nil {
				w.t.Error(err)
			}
			if w.kept != nil {
				w.kept.keep(w.t, r.Images[0])
			}
		}
	}()
	return func() { <-done }
}

// build builds the current state, with the cache or without one.
func (w *world) build(cache string, during func()) (digest v1.Hash, claimed bool, err error) {
	w.t.Helper()
	at := cache + strconv.Itoa(len(w.environ)) // a Builder keeps its environment
	b := w.builders[at]
	if b == nil || w.rnd.Intn(3) > 0 { // some Builders are reused: they must not remember more than new ones
		b = &build.Builder{Work: w.t.TempDir(), Cache: cache, Go: &crosscompile.Go{Environ: w.environ}}
		w.builders[at] = b
	}
	s := w.spec
	s.Dir, s.Program = w.dir, build.GoPackage{Compile: w.compile}
	done := make(chan struct{})
	go func() { during(); close(done) }()
	wait := w.besides(b, s, build.Hooks{})
	if cache == "" { // one after the other
		wait()
	}
	r, err := b.Build(w.t.Context(), s, build.Hooks{})
	<-done
	wait()
	if err != nil {
		return digest, false, err
	}
	digest, err = r.Index.Digest()
	return digest, r.Images[0].Binary.Path == "", err
}

// walk makes random steps. remembers builds with what it has kept, and reports whether it was
// used; such a result must be the one that a build without a cache gives. Some walks begin
// with sources of which nothing is kept for long, so they go on until something was used.
func (w *world) walk(steps int, what string, remembers func(during func()) (v1.Hash, bool, error)) {
	w.t.Helper()
	walked, claims, broken := 0, 0, 0
	for i := 0; i < steps || claims < steps/50 && i < 4*steps; i++ {
		walked++
		did := w.step()
		if w.rnd.Intn(2) == 0 {
			time.Sleep(60 * time.Millisecond) // past the clock's granularity
		}
		during, before := func() {}, v1.Hash{}
		if w.rnd.Intn(8) == 0 {
			did += ", and an edit meanwhile"
			before, _, _ = w.build("", during)
			wait, edit := time.Duration(w.rnd.Intn(150))*time.Millisecond, w.anEdit()
			during = func() {
				time.Sleep(wait)
				edit()
			}
		}
		digest, claimed, err := remembers(during)
		beside := w.beside
		if err != nil {
			broken++
			w.repair()
		}
		if !claimed {
			continue
		}
		claims++
		if want, _, err := w.build("", func() {}); err != nil || digest != want && digest != before {
			w.t.Fatalf("step %d, %s: %s gives %s, the compiler %s, %v", i, did, what, digest, want, err)
		}
		if before == (v1.Hash{}) && beside != w.beside {
			w.t.Fatalf("step %d, %s: beside it %s gives %s, the compiler %s", i, did, what, beside, w.beside)
		}
	}
	w.t.Logf("%d of %d builds used %s, %d failed", claims, walked, what, broken)
	if claims < steps/50 || broken > walked/5 {
		w.t.Errorf("too few builds used %s", what)
	}
}
