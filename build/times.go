package build

import (
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/permits"
)

// A times has the times that the programs of a package took to compile. They decide in
// which order the next build compiles its platforms, and nothing else, so lost or old
// times do no harm.
type times struct {
	key string

	mu   sync.Mutex
	took map[string]time.Duration // by programKey
	news bool                     // took has something that is not in the cache
}

// times loads the times of s's package from the cache.
func (b *Builder) times(s Spec) *times {
	main := s.goPackage().Main
	t := &times{key: main.Dir + "\x00" + main.ImportPath}
	b.cache.Load("times", t.key, &t.took)
	return t
}

// of returns the expected time for p.
func (t *times) of(p ocispec.Platform, how Compile) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if took, ok := t.took[programKey(p, how)]; ok {
		return took
	}
	return permits.Unknown
}

// add records the time that p took. An up-to-date program takes almost no time, which
// says nothing about the next change of its sources. So a recorded time shrinks by at
// most a quarter in each build.
func (t *times) add(p ocispec.Platform, how Compile, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.took == nil {
		t.took = map[string]time.Duration{}
	}
	key := programKey(p, how)
	t.took[key] = max(took, t.took[key]*3/4)
	t.news = true
}

// store stores the times in the cache if there are new ones.
func (t *times) store(b *Builder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.news {
		_ = b.cache.Store("times", t.key, t.took) // without them only the order is another one
	}
}
