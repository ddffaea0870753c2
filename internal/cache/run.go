package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/mabuild/mabuild/internal/claim"
)

// clocks is how far the clocks of a file system and of those who use it may be apart.
const clocks = 2 * time.Second

// here is what this process does with a cache, whoever in it has opened it.
type here struct {
	runs   atomic.Int32 // that have entered and not left
	stored atomic.Bool  // something, since it was pruned
}

var everywhere sync.Map // of *here, by directory

func hereOf(dir string) *here {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	h, _ := everywhere.LoadOrStore(dir, &here{})
	return h.(*here)
}

// gate is the file that who enters locks beside others, for a moment, and who prunes
// alone, so that nobody enters while something is removed.
func (c *Cache) gate() string { return filepath.Join(c.runs(), "gate") }

// Enter begins a run: what it finds, stores or claims from now on is not pruned until
// leave, or the end of the process. leave may be called more than once. A run that
// could not enter, as where files cannot be locked, goes on all the same.
func (c *Cache) Enter(ctx context.Context) (leave func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	lock, err := c.enter(ctx)
	if err != nil {
		return func() {}, fmt.Errorf("cache %s: %w", c.dir, err)
	}
	c.here.runs.Add(1)
	return sync.OnceFunc(func() {
		c.here.runs.Add(-1)
		_ = lock.Close()
		_ = os.Remove(lock.Path()) // what is left is swept
	}), nil
}

// Stay enters for as long as c is in use, unless a run of this process has entered.
func (c *Cache) Stay(ctx context.Context) (err error) {
	if c == nil || c.here.runs.Load() > 0 {
		return nil
	}
	if c.stay, err = c.enter(ctx); err != nil { // its file is closed when c is garbage
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	return nil
}

// enter makes the file that stands for a run and locks it.
func (c *Cache) enter(ctx context.Context) (*flock.Flock, error) {
	gate := claim.Lock(c.gate())
	if _, err := gate.TryRLockContext(ctx, claim.Patience); err != nil {
		return nil, err
	}
	defer gate.Close() //nolint:errcheck // nothing was written
	f, err := os.CreateTemp(c.runs(), "run-*")
	if err != nil {
		return nil, err
	}
	_ = f.Close() // nothing was written
	touched(f.Name())
	lock := claim.Lock(f.Name())
	_, err = lock.TryLock()
	return lock, err
}

// Stored reports whether this process has stored or claimed anything since it pruned
// the cache last.
func (c *Cache) Stored() bool { return c != nil && c.here.stored.Load() }

// enterAlone keeps everybody from entering until the gate is closed.
func (c *Cache) enterAlone(ctx context.Context) (*flock.Flock, error) {
	gate := claim.Lock(c.gate())
	if _, err := gate.TryLockContext(ctx, claim.Patience); err != nil {
		return nil, fmt.Errorf("cache %s: nothing is removed, because it is unknown which runs use it: %w", c.dir, err)
	}
	return gate, nil
}

// needed returns what tells by when something was used last whether a run counts on
// it: since the one began that entered first of those that have not left. It sweeps
// away what the dead left behind.
func (c *Cache) needed() func(used time.Time) bool {
	first := time.Time{}
	files, err := filepath.Glob(filepath.Join(c.runs(), "run-*"))
	if err != nil {
		return func(time.Time) bool { return true }
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // it has left
		}
		lock := claim.Lock(file)
		if mine, err := lock.TryLock(); err == nil && mine {
			_ = lock.Close()
			_ = os.Remove(file)
			continue
		}
		if first.IsZero() || info.ModTime().Before(first) {
			first = info.ModTime()
		}
	}
	if first.IsZero() {
		return func(time.Time) bool { return false }
	}
	since := first.Add(-clocks)
	return func(used time.Time) bool { return !used.Before(since) }
}
