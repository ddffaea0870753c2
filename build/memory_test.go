package build_test

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
)

// world is a workspace that a person works in, at random.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	dir     string // of the main module, inside top
	top     string
	environ []string

	builders map[string]*build.Builder // by cache
}

func newWorld(t *testing.T, seed int64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewSource(seed)), top: t.TempDir(), environ: append(os.Environ(), "GOFLAGS=", "GOWORK=", "GOENV=off"), builders: map[string]*build.Builder{}}
	w.dir = filepath.Join(w.top, "app")
	w.write("app/go.mod", "module example.com/app\n\ngo 1.26\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../lib\n")
	w.write("app/main.go", "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.com/lib\"\n)\n\n//go:embed text\nvar text string\n\nfunc main() { println(text, a, b, lib.L, tagged) }\n")
	w.write("app/tag.go", "//go:build !odd\n\npackage main\n\nconst tagged = 1\n")
	w.write("app/odd.go", "//go:build odd\n\npackage main\n\nconst tagged = 2\n")
	w.write("lib/go.mod", "module example.com/lib\n\ngo 1.26\n")
	for _, name := range []string{"a", "b"} {
		w.value(name)
	}
	w.lib()
	w.write("app/text", "text")
	return w
}

func (w *world) write(name, content string) {
	w.t.Helper()
	path := filepath.Join(w.top, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// value gives the constant of a file a value; all values have the same length.
func (w *world) value(name string) {
	w.write("app/"+name+".go", fmt.Sprintf("package main\n\nconst %s = %d\n", name, 100_000+w.rnd.Intn(900_000)))
}

func (w *world) lib() {
	w.write("lib/lib.go", fmt.Sprintf("package lib\n\nconst L = %d\n", 100_000+w.rnd.Intn(900_000)))
}

// step does something that people, editors and version control do to files.
// It returns what, for the log.
func (w *world) step() string {
	a := filepath.Join(w.dir, "a.go")
	steps := []struct {
		what string
		do   func() error
	}{
		{"nothing", func() error { return nil }},
		{"nothing", func() error { return nil }},
		{"nothing", func() error { return nil }},
		{"edit", func() error { w.value("a"); return nil }},
		{"edit, the time put back", func() error {
			info, err := os.Stat(a)
			if err != nil {
				return err
			}
			w.value("a")
			return os.Chtimes(a, info.ModTime(), info.ModTime())
		}},
		{"replace by a file of the same size and time", func() error { w.replaceB(); return nil }},
		{"touch", func() error { return os.Chtimes(a, time.Now(), time.Now()) }},
		{"embed", func() error { w.write("app/text", strconv.Itoa(100+w.rnd.Intn(900))); return nil }},
		{"a replaced module", func() error { w.lib(); return nil }},
		{"add", func() error {
			w.write("app/init.go", fmt.Sprintf("package main\n\nfunc init() { println(%d) }\n", w.rnd.Intn(1000)))
			return nil
		}},
		{"remove", func() error { return os.RemoveAll(filepath.Join(w.dir, "init.go")) }},
		{"rename", func() error { return os.Rename(filepath.Join(w.dir, "tag.go"), filepath.Join(w.dir, "tag.go")) }},
		{"a go.work above", func() error { w.write("go.work", "go 1.26\n\nuse ./app\n\nuse ./lib\n"); return nil }},
		{"no go.work above", func() error { return os.RemoveAll(filepath.Join(w.top, "go.work")) }},
		{"a link to elsewhere", func() error {
			return os.Symlink(filepath.Join(w.top, "lib"), filepath.Join(w.dir, "link"+strconv.Itoa(w.rnd.Intn(1e9))))
		}},
		{"no links", w.unlink},
		{"no links", w.unlink},
		{"no links", w.unlink},
		{"another setting", func() error { w.environ = append(w.environ, "GOFLAGS=-tags=odd"); return nil }},
		{"the setting back", func() error { w.environ = append(w.environ, "GOFLAGS="); return nil }},
	}
	s := steps[w.rnd.Intn(len(steps))]
	if err := s.do(); err != nil {
		w.t.Fatalf("%s: %v", s.what, err)
	}
	return s.what
}

// replaceB moves another file of the same size and time to where b.go is.
func (w *world) replaceB() {
	b, next := filepath.Join(w.dir, "b.go"), filepath.Join(w.dir, "b.new")
	info, err := os.Stat(b)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.write("app/b.new", fmt.Sprintf("package main\n\nconst b = %d\n", 100_000+w.rnd.Intn(900_000)))
	if err := errors.Join(os.Chtimes(next, info.ModTime(), info.ModTime()), os.Rename(next, b)); err != nil {
		w.t.Error(err)
	}
}

func (w *world) unlink() error {
	links, err := filepath.Glob(filepath.Join(w.dir, "link*"))
	for _, link := range links {
		err = errors.Join(err, os.Remove(link))
	}
	return err
}

// build builds what is there, with the cache or without one.
func (w *world) build(cache string, during func()) (digest v1.Hash, claimed bool) {
	w.t.Helper()
	at := cache + strconv.Itoa(len(w.environ)) // a Builder's environment is one
	b := w.builders[at]
	if b == nil || w.rnd.Intn(3) > 0 { // one that lives long must not remember more than others
		b = &build.Builder{Work: w.t.TempDir(), Cache: cache, Go: &crosscompile.Go{Environ: w.environ}}
		w.builders[at] = b
	}
	done := make(chan struct{})
	go func() { during(); close(done) }()
	r, err := b.Build(w.t.Context(), build.Spec{Dir: w.dir, Base: build.Scratch, Platforms: parse(w.t, "linux/amd64")}, build.Hooks{})
	<-done
	if err != nil {
		w.t.Fatal(err)
	}
	if digest, err = r.Index.Digest(); err != nil {
		w.t.Fatal(err)
	}
	return digest, r.Images[0].Binary.Path == ""
}

// Whatever is done to the sources, a result that comes without the compiler is
// the one that the compiler would give. MABUILD_STEPS says how long to try.
func TestWhatIsRememberedIsNeverWrong(t *testing.T) {
	steps, seed := 60, time.Now().UnixNano()
	if n, err := strconv.Atoi(os.Getenv("MABUILD_STEPS")); err == nil {
		steps = n
	}
	if n, err := strconv.ParseInt(os.Getenv("MABUILD_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("MABUILD_SEED=%d MABUILD_STEPS=%d", seed, steps)
	w, cache, claims := newWorld(t, seed), t.TempDir(), 0
	for i := range steps {
		what := w.step()
		if w.rnd.Intn(2) == 0 {
			time.Sleep(60 * time.Millisecond) // past the clock's granularity
		}
		during, before := func() {}, v1.Hash{}
		if w.rnd.Intn(8) == 0 {
			what += ", and an edit meanwhile"
			before, _ = w.build("", during)
			wait := time.Duration(w.rnd.Intn(150)) * time.Millisecond
			during = func() {
				time.Sleep(wait)
				w.replaceB()
			}
		}
		digest, claimed := w.build(cache, during)
		if !claimed {
			continue
		}
		claims++
		if want, _ := w.build("", func() {}); digest != want && digest != before {
			t.Fatalf("step %d, %s: remembered %s, it is %s", i, what, digest, want)
		}
	}
	t.Logf("%d of %d builds were remembered", claims, steps)
	if err := w.unlink(); err != nil {
		t.Fatal(err)
	}
	w.value("a")
	for _, want := range []bool{false, true, true} {
		time.Sleep(60 * time.Millisecond)
		if _, claimed := w.build(cache, func() {}); claimed != want {
			t.Errorf("after the last edit remembered is %v, want %v", claimed, want)
		}
	}
}

// A program that is remembered says of itself what it said when it was compiled, and
// so does its base.
func TestBuildInfoOfWhatIsRemembered(t *testing.T) {
	w := newWorld(t, 1)
	cache := t.TempDir()
	info := func() (text string, base string, compiled bool) {
		b := build.Builder{Work: t.TempDir(), Cache: cache, Go: &crosscompile.Go{Environ: w.environ}}
		r, err := b.Build(t.Context(), build.Spec{Dir: w.dir, Base: build.Scratch, Platforms: parse(t, "linux/arm/v6")}, build.Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		i, err := r.Images[0].BuildInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return i.String(), r.Images[0].BaseRef, r.Images[0].Binary.Path != ""
	}
	time.Sleep(60 * time.Millisecond) // past the clock's granularity
	first, base, compiled := info()
	if !compiled || base != build.Scratch || !strings.Contains(first, "dep\texample.com/lib\tv0.0.0") || !strings.Contains(first, "GOARM=6") {
		t.Fatalf("compiled %t on %s: %s", compiled, base, first)
	}
	again, base, compiled := info()
	if compiled || base != build.Scratch || again != first {
		t.Errorf("compiled %t on %s:\n%s\nwant\n%s", compiled, base, again, first)
	}
}
