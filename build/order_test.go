package build

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/manifest/platform"
)

// starts is a log handler that records the platforms for which a compiler starts.
type starts struct {
	slog.Handler
	mu   sync.Mutex
	list []string
}

func (s *starts) Enabled(context.Context, slog.Level) bool { return true }
func (s *starts) WithAttrs(attrs []slog.Attr) slog.Handler { return started{s, attrs} }

type started struct {
	*starts
	attrs []slog.Attr
}

func (s started) Handle(_ context.Context, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.attrs {
		if r.Message == "compiling" && a.Key == "platform" {
			s.list = append(s.list, a.Value.String())
		}
	}
	return nil
}

func (s *starts) Handle(context.Context, slog.Record) error { return nil }

// The platform that took longest last time is compiled first, after those with no record.
// The order does not change the result.
func TestLongestCompiledFirst(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	platforms, err := platform.ParseList([]string{"linux/amd64,linux/arm64,linux/riscv64,linux/s390x"})
	if err != nil {
		t.Fatal(err)
	}
	digests := map[v1.Hash]bool{}
	for _, test := range []struct {
		took map[string]time.Duration
		want []string
	}{
		{nil, []string{"linux/amd64", "linux/arm64", "linux/riscv64", "linux/s390x"}},
		{map[string]time.Duration{"linux/amd64": 1, "linux/arm64": 3, "linux/s390x": 2}, []string{"linux/riscv64", "linux/arm64", "linux/s390x", "linux/amd64"}},
	} {
		seen := &starts{}
		b := &Builder{Work: t.TempDir(), Cache: t.TempDir(), Jobs: 1, Log: slog.New(seen)}
		s, err := b.Resolve(t.Context(), Spec{Program: GoPackage{Package: "."}, Dir: dir, Platforms: platforms})
		if err != nil {
			t.Fatal(err)
		}
		main := s.goPackage().Main
		key := s.Program.maker(b, s).key
		keys := map[string]string{}
		for _, p := range platforms {
			if keys[platform.Key(p)], err = key(p); err != nil {
				t.Fatal(err)
			}
		}
		known := permits.Times{Cache: b.cache, Name: main.Dir + "\x00" + main.ImportPath}
		for _, p := range platforms {
			if took, ok := test.took[platform.Key(p)]; ok {
				known.Add(keys[platform.Key(p)], took)
			}
		}
		known.Store()
		r, err := b.Build(t.Context(), s, Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(seen.list, test.want) {
			t.Errorf("compiled %v, want %v", seen.list, test.want)
		}
		digest, err := r.Index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[digest] = true
		again := permits.Times{Cache: b.cache, Name: known.Name}
		for _, p := range platforms {
			if took := again.Expected(keys[platform.Key(p)]); took == permits.Unknown || took < time.Millisecond {
				t.Errorf("the cache says that %s took %v", platform.Key(p), took)
			}
		}
	}
	if len(digests) != 1 {
		t.Errorf("the two builds have %d digests, want 1", len(digests))
	}
}
