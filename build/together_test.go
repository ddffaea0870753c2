package build_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
)

// A many is a module with several programs, and a go command that logs its arguments.
type many struct {
	t   *testing.T
	dir string
	log string
	c   *crosscompile.Go
}

func newMany(t *testing.T, names ...string) *many {
	t.Helper()
	m := &many{t: t, dir: t.TempDir()}
	m.log = filepath.Join(t.TempDir(), "log")
	m.write("go.mod", "module example.com/many\n\ngo 1.26\n")
	m.write("lib/lib.go", "package lib\n\nconst L = 1\n")
	for _, name := range names {
		m.write(name+"/main.go", "package main\n\nimport \"example.com/many/lib\"\n\nfunc main() { println(lib.L, \""+name+"\") }\n")
	}
	real, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	// Later go commands are started by the path in GOROOT that the first one prints.
	root := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = env ]; then %s \"$@\" | sed 's#\"GOROOT\": .*#\"GOROOT\": \"%s\",#'; exit; fi\necho \"$*\" >>%s\nexec %s \"$@\"\n", real, root, m.log, real)
	if err := errors.Join(os.Mkdir(filepath.Join(root, "bin"), 0o755), os.WriteFile(filepath.Join(root, "bin", "go"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	m.c = &crosscompile.Go{Command: filepath.Join(root, "bin", "go")}
	return m
}

// builder returns a Builder with a cache directory.
func (m *many) builder(cache string) *build.Builder {
	return &build.Builder{Work: m.t.TempDir(), Cache: cache, Jobs: 1, Go: m.c}
}

// built returns the programs of each go build since the last call, sorted.
func (m *many) built() (list []string) {
	m.t.Helper()
	log, err := os.ReadFile(m.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	_ = os.Remove(m.log)
	for line := range strings.Lines(string(log)) {
		if strings.HasPrefix(line, "build ") {
			_, programs, _ := strings.Cut(strings.TrimSpace(line), " -- ")
			words := strings.Fields(programs)
			slices.Sort(words)
			list = append(list, strings.Join(words, " "))
		}
	}
	slices.Sort(list)
	return list
}

func (m *many) write(name, content string) {
	m.t.Helper()
	file := filepath.Join(m.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

// spec returns the build of a program.
func (m *many) spec(name string, flags ...string) build.Spec {
	return build.Spec{
		Dir: m.dir, Base: build.Scratch, Platforms: parse(m.t, "linux/amd64", "windows/amd64"),
		Program: build.GoPackage{Package: "./" + name, Compile: build.Compile{Ldflags: flags}},
	}
}

// build builds all at once, or one after another, and returns the digests and the errors. Those
// that are built at once are resolved before, as the commands do, so that none comes too late.
func (m *many) build(b *build.Builder, atOnce bool, specs ...build.Spec) ([]v1.Hash, []error) {
	digests, errs := make([]v1.Hash, len(specs)), make([]error, len(specs))
	specs = slices.Clone(specs)
	for i, s := range specs {
		if resolved, err := b.Resolve(m.t.Context(), s); atOnce && err == nil { // Build says what is wrong
			specs[i] = resolved
		}
	}
	var wg sync.WaitGroup
	for i, s := range specs {
		one := func() {
			r, err := b.Build(m.t.Context(), s, build.Hooks{})
			if errs[i] = err; err == nil {
				digests[i], errs[i] = r.Index.Digest()
			}
		}
		if wg.Go(one); !atOnce {
			wg.Wait()
		}
	}
	wg.Wait()
	return digests, errs
}

// Programs of one module with the same settings are compiled by one go command for each
// platform, and are the same as if each was compiled alone. Those that are up to date are not
// linked again.
func TestCompiledTogether(t *testing.T) {
	m := newMany(t, "a", "b", "c", "x/a", "flags")
	specs := []build.Spec{m.spec("a"), m.spec("b"), m.spec("c"), m.spec("x/a"), m.spec("flags", "-X main.n=1")}
	want, errs := m.build(m.builder(""), false, specs...)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if alone := m.built(); len(alone) != 2*len(specs) {
		t.Fatalf("one after another: %q", alone)
	}
	cache := t.TempDir()
	for round, dir := range []string{"", cache, cache} {
		got, errs := m.build(m.builder(dir), true, specs...)
		if err := errors.Join(errs...); err != nil || !slices.Equal(got, want) {
			t.Fatalf("round %d: %v, want %v, %v", round, got, want, err)
		}
		built := m.built()
		if round == 2 { // if the records are not used, everything is up to date
			continue
		}
		// Two programs have the name a, and the one with other flags is alone.
		three := slices.DeleteFunc(slices.Clone(built), func(s string) bool { return strings.Count(s, " ") != 2 || strings.Contains(s, "flags") })
		if len(built) != 6 || len(three) != 2 {
			t.Errorf("round %d: %q", round, built)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "*", "programs", "*", ".group"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// A program that cannot be compiled, or whose package cannot be read, fails alone, and the
// error names it. The others are built.
func TestOneOfTheProgramsFails(t *testing.T) {
	m := newMany(t, "a", "b", "c")
	want, _ := m.build(m.builder(""), false, m.spec("a"), m.spec("c"))
	for name, text := range map[string]string{
		"wrong":   "package main\n\nfunc main() { wrong }\n",
		"missing": "package main\n\nimport _ \"example.com/many/missing\"\n\nfunc main() {}\n",
	} {
		m.write("b/main.go", text)
		got, errs := m.build(m.builder(t.TempDir()), true, m.spec("a"), m.spec("b"), m.spec("c"))
		if errs[0] != nil || errs[2] != nil || got[0] != want[0] || got[2] != want[1] {
			t.Errorf("%s: %v, %v, want %v", name, got, errs, want)
		}
		var pe *build.PlatformError
		if !errors.As(errs[1], &pe) || pe.Step != "compile" || !strings.Contains(errs[1].Error(), name) || strings.Contains(errs[1].Error(), "cmd/a") {
			t.Errorf("%s: %v", name, errs[1])
		}
	}
}

// A build that is cancelled does not stop those that are compiled together with it.
func TestOneOfTheProgramsIsCancelled(t *testing.T) {
	m := newMany(t, "a", "b", "c")
	want, _ := m.build(m.builder(""), false, m.spec("a"), m.spec("c"))
	for range 4 {
		b := m.builder(t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := b.Build(ctx, m.spec("b"), build.Hooks{})
			ended <- err
		}()
		time.AfterFunc(time.Duration(rand.Intn(300))*time.Millisecond, cancel)
		got, errs := m.build(b, true, m.spec("a"), m.spec("c"))
		if err := errors.Join(errs...); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, want %v, %v", got, want, err)
		}
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// Builders that share a cache, and builds of the same programs under two names, do not wait
// for each other in a circle.
func TestTogetherInSeveralBuilders(t *testing.T) {
	m := newMany(t, "a", "b", "c")
	specs := []build.Spec{m.spec("a"), m.spec("b"), m.spec("c"), m.spec("c"), m.spec("b"), m.spec("a")}
	for i := range 3 {
		specs[i].Name = "other"
	}
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 3 {
		b := m.builder(cache)
		wg.Go(func() {
			if _, errs := m.build(b, true, specs...); errors.Join(errs...) != nil {
				t.Error(errs)
			}
		})
	}
	wg.Wait()
}
