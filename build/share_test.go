package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

func program(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Only one build at a time compiles a program to its path, with or without a cache.
func TestOneBuildAtATimeCompilesAProgram(t *testing.T) {
	for name, cache := range map[string]string{"no cache": "", "a cache": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			b := &Builder{Work: t.TempDir(), Cache: cache}
			b.init(t.Context())
			r := &goMaker{Builder: b, spec: Spec{Name: "app"}}
			p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
			path, unlock, err := r.out(t.Context(), p, Compile{})
			if err != nil {
				t.Fatal(err)
			}
			impatient, stop := context.WithCancel(t.Context())
			stop()
			if _, _, err := r.out(impatient, p, Compile{}); !errors.Is(err, context.Canceled) {
				t.Errorf("%v while another build holds it", err)
			}
			_, other, err := r.out(t.Context(), p, Compile{Race: true})
			if err != nil {
				t.Fatal(err)
			}
			other()
			unlock()
			again, unlock, err := r.out(t.Context(), p, Compile{})
			if err != nil || again != path {
				t.Errorf("%s, %v; want %s", again, err, path)
			}
			unlock()
		})
	}
}

// Concurrent builds of one program that several versions of Windows share all end with the
// same result, with one permit and no cache.
func TestBuildsOfOneProgramAtOnce(t *testing.T) {
	b := &Builder{Work: t.TempDir(), Jobs: 1}
	s := Spec{Dir: program(t, "package main\n\nfunc main() {}\n"), Program: GoPackage{Package: "."}, Base: Scratch, Platforms: []ocispec.Platform{
		{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1"},
		{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.1"},
		{OS: "windows", Architecture: "amd64", OSVersion: "10.0.26100.1"},
	}}
	digests, errs := make([]v1.Hash, 3), make([]error, 3)
	var wg sync.WaitGroup
	for i := range digests {
		wg.Go(func() {
			r, err := b.Build(t.Context(), s, Hooks{})
			if errs[i] = err; err == nil {
				digests[i], errs[i] = r.Index.Digest()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil || digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("%v, %v", digests, err)
	}
}

// oneBase is a source with a single image for linux/amd64.
type oneBase struct{ v1.Image }

func newBase(t *testing.T) oneBase {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	return oneBase{img}
}

func (s oneBase) Resolve(context.Context, string) (v1.Descriptor, error) {
	return manifest.Describe(s.Image)
}

func (s oneBase) Get(context.Context, string) (manifest.Content, error) { return s.Image, nil }

// unlike is an image whose config has more layers than its manifest.
type unlike struct {
	v1.Image
	layers int
}

func (u unlike) ConfigFile() (*v1.ConfigFile, error) {
	config, err := u.Image.ConfigFile()
	config = config.DeepCopy()
	for len(config.RootFS.DiffIDs) < u.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)})
	}
	return config, err
}

// A base image whose config and manifest disagree about its layers is an error.
func TestBaseConfigMustMatchManifest(t *testing.T) {
	b := &Builder{Work: t.TempDir(), Bases: oneBase{unlike{newBase(t).Image, 2}}}
	s := Spec{Dir: program(t, "package main\n\nfunc main() {}\n"), Program: GoPackage{Package: "."}, Base: "base", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}}
	_, err := b.Plan(t.Context(), s)
	var be *BaseError
	if !errors.As(err, &be) || be.Ref != "base" || !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), "linux/amd64: 0 layers in the manifest, 2 in the config") {
		t.Errorf("%v", err)
	}
}

// If a program fails to compile, the hook that sends its base image is cancelled and has
// ended when Build returns.
func TestNoHookOutlivesItsBuild(t *testing.T) {
	var ended atomic.Bool
	b := &Builder{Work: t.TempDir(), Bases: newBase(t)}
	s := Spec{Dir: program(t, "package main\n\nfunc main() { wrong }\n"), Program: GoPackage{Package: "."}, Base: "base", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}}
	_, err := b.Build(t.Context(), s, Hooks{OnBase: func(ctx context.Context, _ ocispec.Platform, _ v1.Image) error {
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // a Build that does not wait would return before this
		ended.Store(true)
		return ctx.Err()
	}})
	if !ended.Load() {
		t.Error("the hook still runs")
	}
	var pe *PlatformError
	if !errors.As(err, &pe) || pe.Step != "compile" || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
