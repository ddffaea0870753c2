package build_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
)

// An image is the same whether it is compiled from nothing, taken from Go's build cache, or
// taken from mabuild's cache without starting go.
func TestCachesDoNotChangeTheImage(t *testing.T) {
	warm := append(os.Environ(), "GOFLAGS=", "GOWORK=", "GOENV=off")
	cold := append(slices.Clone(warm), "GOCACHE="+t.TempDir())
	source := func() string { return newWorld(t, 1).dir }
	dir, cache, work := source(), t.TempDir(), t.TempDir()
	platforms := parse(t, "linux/amd64,linux/arm64")
	publish := func(environ []string, dir, cache string, jobs int, platforms []ocispec.Platform) (digest, first v1.Hash, compiled int) {
		t.Helper()
		b := &build.Builder{Work: work, Cache: cache, Jobs: jobs, Go: &crosscompile.Go{Environ: environ}}
		r, err := b.Build(t.Context(), build.Spec{Dir: dir, Name: "app", Platforms: platforms}, build.Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		digest, err = r.Index.Digest()
		if err := errors.Join(err, validate.Index(r.Index)); err != nil {
			t.Fatal(err)
		}
		if first, err = r.Images[0].Digest(); err != nil {
			t.Fatal(err)
		}
		for _, img := range r.Images {
			if img.Binary.Path != "" {
				compiled++
			}
		}
		return digest, first, compiled
	}
	settled := func() { time.Sleep(100 * time.Millisecond) } // files that are too young are not recorded
	settled()
	want, first, _ := publish(warm, dir, cache, 0, platforms) // with Go's own build cache
	// With an empty build cache Go compiles the standard library, for one platform.
	if _, got, compiled := publish(cold, dir, t.TempDir(), 0, platforms[:1]); got != first || compiled != 1 {
		t.Errorf("a cold Go, an empty cache: %s, want %s; %d programs compiled", got, first, compiled)
	}

	for _, way := range []struct {
		name       string
		prepare    func() error
		dir, cache string
		jobs       int
		compiles   bool
	}{
		{name: "up to date, no compiler", dir: dir, cache: cache},
		{name: "files touched, layers kept", dir: dir, cache: cache, compiles: true, prepare: func() error {
			return os.Chtimes(filepath.Join(dir, "a.go"), time.Now(), time.Now())
		}},
		{name: "layers removed from the cache", dir: dir, cache: cache, compiles: true, prepare: func() error {
			return os.RemoveAll(filepath.Join(cache, "blobs"))
		}},
		{name: "programs removed from the cache", dir: dir, cache: cache, compiles: true, prepare: func() error {
			return errors.Join(os.RemoveAll(filepath.Join(cache, "programs")), os.RemoveAll(filepath.Join(cache, "records")))
		}},
		{name: "a filled build cache, an empty cache", dir: dir, cache: t.TempDir(), compiles: true},
		{name: "a filled build cache, no cache", dir: dir, compiles: true},
		{name: "one job", dir: dir, jobs: 1, compiles: true},
		{name: "many jobs", dir: dir, jobs: 16, compiles: true},
		{name: "one core", dir: dir, compiles: true, prepare: func() error { runtime.GOMAXPROCS(1); return nil }},
		{name: "another directory", dir: source(), cache: t.TempDir(), compiles: true},
	} {
		cores := runtime.GOMAXPROCS(0)
		if way.prepare != nil {
			if err := way.prepare(); err != nil {
				t.Fatal(err)
			}
			settled()
		}
		digest, _, compiled := publish(warm, way.dir, way.cache, way.jobs, platforms)
		runtime.GOMAXPROCS(cores)
		if digest != want {
			t.Errorf("%s: %s, want %s", way.name, digest, want)
		}
		if wants := map[bool]int{true: len(platforms)}[way.compiles]; compiled != wants {
			t.Errorf("%s: %d programs compiled, want %d", way.name, compiled, wants)
		}
	}
}
