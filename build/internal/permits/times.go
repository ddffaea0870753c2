package permits

import (
	"sync"
	"time"

	"github.com/mabuild/mabuild/internal/cache"
)

// Times has the times that the programs of a package took to compile. They decide in
// which order the next build compiles its platforms, and nothing else, so lost or old
// times do no harm. It is safe for concurrent use.
type Times struct {
	Cache *cache.Cache // nil: no times are known
	Name  string       // identifies the package

	mu   sync.Mutex
	took map[string]time.Duration // by program; nil: not loaded yet
	news bool                     // took has something that is not in the cache
}

// load reads the times from the cache once. t.mu is held.
func (t *Times) load() {
	if t.took != nil {
		return
	}
	if !t.Cache.Load("times", t.Name, &t.took) || t.took == nil {
		t.took = map[string]time.Duration{}
	}
}

// Expected returns the time that a program took, or [Unknown].
func (t *Times) Expected(program string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load()
	if took, ok := t.took[program]; ok {
		return took
	}
	return Unknown
}

// Add records the time that a program took. An up-to-date program takes almost no time,
// which says nothing about the next change of its sources. So a recorded time shrinks by
// at most a quarter in each build.
func (t *Times) Add(program string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load()
	t.took[program] = max(took, t.took[program]*3/4)
	t.news = true
}

// Store stores the times in the cache if there are new ones.
func (t *Times) Store() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.news {
		_ = t.Cache.Store("times", t.Name, t.took) // without them only the order is another one
	}
}
