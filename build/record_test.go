package build_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/regtest"
)

// After any change of the sources, a result that comes from a build record is the one that
// the compiler would give. MABUILD_STEPS sets the number of random steps.
func TestWhatIsRememberedIsNeverWrong(t *testing.T) {
	steps, seed := 60, regtest.Seed(t)
	if n, err := strconv.Atoi(os.Getenv("MABUILD_STEPS")); err == nil {
		steps = n
	}
	t.Logf("%d steps with seed %d", steps, seed)
	w, cache := newWorld(t, seed), t.TempDir()
	w.walk(steps, "the build record", func(during func()) (v1.Hash, bool, error) { return w.build(cache, during) })
	w.settle()
	for _, want := range []bool{false, true, true} {
		time.Sleep(60 * time.Millisecond)
		if _, claimed, err := w.build(cache, func() {}); claimed != want || err != nil {
			t.Errorf("after the last edit the build record gives %v, want %v: %v", claimed, want, err)
		}
	}
}

// After any change of the sources, a layer that is remembered under a key is the one that the
// compiler would make here, also if it was made in another checkout.
func TestWhatIsRecalledIsNeverWrong(t *testing.T) {
	t.Parallel()
	steps, seed := 100, regtest.Seed(t)
	if n, err := strconv.Atoi(os.Getenv("MABUILD_STEPS")); err == nil {
		steps = n
	}
	t.Logf("%d steps with seed %d", steps, seed)
	w, kept := newWorld(t, seed), &recalls{layers: map[string]v1.Layer{}, cache: t.TempDir()}
	w.kept = kept
	w.walk(steps, "the key", func(during func()) (v1.Hash, bool, error) {
		here := w.dir
		defer func() { w.dir = here }()
		if w.rnd.Intn(4) == 0 && here == w.at("app") {
			copied := t.TempDir()
			if out, err := exec.Command("cp", "-RP", w.top+"/.", copied).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w.dir = filepath.Join(copied, "app")
		}
		r, err := kept.build(w, during)
		if err != nil {
			return v1.Hash{}, false, err
		}
		digest, err := r.Index.Digest()
		return digest, r.Images[0].Binary.Path == "", err
	})
	t.Logf("%d keys were found for what a build record had", kept.proved)
	w.settle()
	kept.cache = ""
	for _, want := range []bool{false, true, true} {
		time.Sleep(60 * time.Millisecond)
		r, err := kept.build(w, func() {})
		if err != nil || r.Images[0].Recalled != want || r.Images[0].Key == "" {
			t.Errorf("after the last edit: %v, want a recalled layer %t", err, want)
		}
	}
}

// recalls has layers by key, as others would keep them.
type recalls struct {
	cache  string // of a machine that keeps what it remembers; "": there is none
	proved int    // layers from a build record whose key was found

	mu     sync.Mutex
	layers map[string]v1.Layer
}

// keep keeps the layer of an image that was compiled, or that the machine remembers. Equal keys
// have equal layers.
func (k *recalls) keep(t *testing.T, img build.Image) {
	if img.Recalled {
		return
	}
	img = img.Keyed(t.Context())
	layers, err := img.Layers()
	if err != nil || img.Key == "" {
		return
	}
	l := layers[len(layers)-1]
	k.mu.Lock()
	defer k.mu.Unlock()
	if before, ok := k.layers[img.Key]; ok {
		was, _ := before.Digest() // is known
		if is, err := l.Digest(); err != nil || is != was {
			t.Errorf("one key has the layers %s and %s, %v", was, is, err)
		}
	}
	if k.layers[img.Key] = l; img.Binary.Path == "" {
		k.proved++
	}
}

// build builds the current state, sometimes on the machine with a cache. It keeps what was
// compiled, and what that machine remembers.
func (k *recalls) build(w *world, during func()) (*build.Result, error) {
	b := &build.Builder{Work: w.t.TempDir(), Recalls: true, Go: &crosscompile.Go{Environ: w.environ}}
	if k.cache != "" && w.rnd.Intn(2) == 0 {
		b.Cache, b.Recalls = k.cache, w.rnd.Intn(2) == 0
	}
	s := w.spec
	s.Dir, s.Program = w.dir, build.GoPackage{Compile: w.compile}
	done := make(chan struct{})
	go func() { during(); close(done) }()
	hooks := build.Hooks{
		Recall: func(_ context.Context, _ ocispec.Platform, key string) (v1.Layer, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			if l, ok := k.layers[key]; ok {
				return l, nil
			}
			return nil, fs.ErrNotExist
		},
		Spoilt: func(_ ocispec.Platform, err error) { w.t.Error(err) },
	}
	wait := w.besides(b, s, hooks)
	r, err := b.Build(w.t.Context(), s, hooks)
	<-done
	wait()
	if err != nil {
		return nil, err
	}
	img := r.Images[0]
	if k.keep(w.t, img); img.Recalled && w.rnd.Intn(3) == 0 { // reads it, which checks the program
		layers, err := img.Layers()
		w.must(err)
		content, err := layers[len(layers)-1].Compressed()
		w.must(err)
		w.must(content.Close())
	}
	return r, nil
}

// A program from a build record reports the same build info and the same base image as when
// it was compiled.
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

// An unchanged build does not start the go command: with two programs of one package, with
// the cache among the sources, and with settings for a platform that is not built.
func TestUnchangedBuildDoesNotStartGo(t *testing.T) {
	w := newWorld(t, 1)
	real, err := exec.LookPath("go")
	w.must(err)
	real, err = filepath.EvalSymlinks(real)
	w.must(err)
	w.write("go/bin/go", "#!/bin/sh\necho \"$*\" >>"+w.at("asked")+"\nexec "+real+" \"$@\"\n")
	w.must(os.Chmod(w.at("go/bin/go"), 0o755), os.Symlink(filepath.Join(filepath.Dir(filepath.Dir(real)), "pkg"), w.at("go/pkg")))
	run := func() (asked string, compiled int) {
		time.Sleep(60 * time.Millisecond) // past the clock's granularity
		b := build.Builder{Work: t.TempDir(), Cache: w.at("app/cache"), Go: &crosscompile.Go{Command: w.at("go/bin/go"), Environ: w.environ}}
		w.must(os.RemoveAll(w.at("asked")))
		for _, set := range []string{"one", "two"} {
			s := w.spec
			s.Dir = w.dir
			s.Program = build.GoPackage{
				Compile:   build.Compile{Ldflags: []string{"-X main.set=" + set}},
				Overrides: map[string]build.Compile{"linux/riscv64": {Symbols: true}},
			}
			r, err := b.Build(t.Context(), s, build.Hooks{})
			w.must(err)
			if r.Images[0].Binary.Path != "" {
				compiled++
			}
		}
		log, err := os.ReadFile(w.at("asked"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(log), compiled
	}
	if asked, compiled := run(); compiled != 2 || asked == "" {
		t.Fatalf("the first run compiled %d programs and started go with %q", compiled, asked)
	}
	if asked, compiled := run(); compiled != 0 || asked != "" {
		t.Errorf("the second run compiled %d programs and started go with %q", compiled, asked)
	}
	w.value("app/a.go", "main", "a")
	if _, compiled := run(); compiled != 2 {
		t.Errorf("after an edit %d programs were compiled", compiled)
	}
	if asked, compiled := run(); compiled != 0 || asked != "" {
		t.Errorf("the run after that compiled %d programs and started go with %q", compiled, asked)
	}
}

// Two builds of one program, whose images wait for each other before any is sent, do not
// wait for each other's directory to compile in.
func TestBuildsOfOneProgramDoNotWaitForEachOther(t *testing.T) {
	w := newWorld(t, 1)
	cache := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	host := "linux/" + runtime.GOARCH
	for round := range 4 { // after the first round the compile times are known
		w.value("app/a.go", "main", "a")
		b := &build.Builder{Work: t.TempDir(), Cache: cache, Jobs: 1, Go: &crosscompile.Go{Environ: w.environ}}
		errs := make(chan error)
		for i := range 2 {
			s := w.spec
			s.Dir, s.Platforms = w.dir, parse(t, host, "linux/riscv64", "linux/s390x")
			s.Program = build.GoPackage{Overrides: map[string]build.Compile{host: {Cgo: true}}}
			s.Config.Env = []string{"N=" + strconv.Itoa(i)}
			go func() {
				_, err := b.Build(ctx, s, build.Hooks{OnImage: func(context.Context, build.Image) error { return nil }})
				errs <- err
			}()
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
