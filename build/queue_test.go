package build

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// order grants and releases all permits, and returns the order in which they were granted.
func order(t *testing.T, tickets map[string]*permit) []string {
	t.Helper()
	var names []string
	for len(tickets) > 0 {
		var next []string
		for name, ticket := range tickets {
			if ticket.granted {
				next = append(next, name)
			}
		}
		if len(next) != 1 {
			t.Fatalf("%v have a permit, but there is only one", next)
		}
		if err := tickets[next[0]].wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		tickets[next[0]].release()
		tickets[next[0]].release()
		delete(tickets, next[0])
		names = append(names, next[0])
	}
	return names
}

// The longest program gets the next permit; programs of unknown length come first.
func TestQueueServesTheLongestFirst(t *testing.T) {
	q := newQueue(1)
	first := q.reserve(2, 5, unknownLength, 3, 3)
	if n := q.atOnce(); n != 1 {
		t.Errorf("atOnce returns %d with one permit", n)
	}
	later := q.reserve(4) // of another program
	got := order(t, map[string]*permit{"2": first[0], "5": first[1], "?": first[2], "3": first[3], "3 too": first[4], "4": later[0]})
	if want := []string{"?", "5", "4", "3", "3 too", "2"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := q.atOnce(); n != 0 || q.free != 1 {
		t.Errorf("atOnce returns %d, %d permits are free", n, q.free)
	}
}

// A permit that is released before it is granted is skipped, and a cancelled wait ends.
func TestQueueSkipsReleasedPermits(t *testing.T) {
	q := newQueue(2)
	all := q.reserve(5, 4, 3, 2)
	all[2].release()
	ended, end := context.WithCancelCause(t.Context())
	why := errors.New("why")
	end(why)
	if err := all[3].wait(ended); !errors.Is(err, why) {
		t.Errorf("wait returns %v after the cancel", err)
	}
	all[0].release()
	if !all[3].granted || all[2].granted {
		t.Error("the permit went to the wrong one")
	}
	if n := q.atOnce(); n != 2 {
		t.Errorf("atOnce returns %d", n)
	}
	for _, ticket := range all {
		ticket.release()
	}
	if q.free != 2 || len(q.waiting) != 0 {
		t.Errorf("%d free, %d waiting", q.free, len(q.waiting))
	}
}

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
		plain, err := s.settings(platforms[0])
		if err != nil {
			t.Fatal(err)
		}
		known := b.times(s)
		for _, p := range platforms {
			if took, ok := test.took[platform.Key(p)]; ok {
				known.add(p, plain, took)
			}
		}
		known.store(b)
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
		again := b.times(s)
		for _, p := range platforms {
			if took := again.of(p, plain); took == unknownLength || took < time.Millisecond {
				t.Errorf("the cache says that %s took %v", platform.Key(p), took)
			}
		}
	}
	if len(digests) != 1 {
		t.Errorf("the two builds have %d digests, want 1", len(digests))
	}
}
