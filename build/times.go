package build

import (
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// times say how long the platforms of a package took to compile when they were
// compiled last. They are a hint for the order of the next run, kept in the
// cache, and nothing else depends on them.
type times struct {
	key string

	mu   sync.Mutex
	took map[string]time.Duration // by platform and flags
	news bool
}

func (b *Builder) times(s Spec) *times {
	t := &times{key: s.Main.Dir + "\x00" + s.Main.ImportPath}
	b.cache.Load("times", t.key, &t.took)
	return t
}

// of returns how long p is expected to take.
func (t *times) of(p ocispec.Platform, how Compile) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if took, ok := t.took[programKey(p, how)]; ok {
		return took
	}
	return unknownLength
}

// add adds what p took. A program that was up to date says little of what it
// takes when it is not, so that what is known shrinks slowly.
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

// store stores what was noted.
func (t *times) store(b *Builder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.news {
		_ = b.cache.Store("times", t.key, t.took) // the next run chooses another order
	}
}
