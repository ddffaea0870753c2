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

// clockSkew is how far the clocks of a file system and of those who use it may be apart.
const clockSkew = 2 * time.Second

// processRuns is what this process does with a cache, whoever in it has opened it.
type processRuns struct {
	runs   atomic.Int32 // that have entered and not left
	stored atomic.Bool  // something, since it was pruned
}

var allProcessRuns sync.Map // of *processRuns, by directory

func processRunsOf(dir string) *processRuns {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	h, _ := allProcessRuns.LoadOrStore(dir, &processRuns{})
	return h.(*processRuns)
}

// lockFile is the file that who enters locks beside others, for a moment, and who prunes
// alone, so that nobody enters while something is removed.
func (c *Cache) lockFile() string { return filepath.Join(c.runs(), "gate") }

// Hold begins a run: what it finds, stores or claims from now on is not pruned until
// leave, or the end of the process. leave may be called more than once. A run that
// could not enter, as where files cannot be locked, goes on all the same.
func (c *Cache) Hold(ctx context.Context) (leave func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	lock, err := c.hold(ctx)
	if err != nil {
		return func() {}, fmt.Errorf("cache %s: %w", c.dir, err)
	}
	c.processRuns.runs.Add(1)
	return sync.OnceFunc(func() {
		c.processRuns.runs.Add(-1)
		_ = lock.Close()
		_ = os.Remove(lock.Path()) // what is left is swept
	}), nil
}

// HoldForever holds for as long as c is in use, unless a run of this process has entered.
func (c *Cache) HoldForever(ctx context.Context) (err error) {
	if c == nil || c.processRuns.runs.Load() > 0 {
		return nil
	}
	if c.forever, err = c.hold(ctx); err != nil { // its file is closed when c is garbage
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	return nil
}

// hold makes the file that stands for a run and locks it.
func (c *Cache) hold(ctx context.Context) (*flock.Flock, error) {
	shared := claim.Lock(c.lockFile())
	if _, err := shared.TryRLockContext(ctx, claim.Patience); err != nil {
		return nil, err
	}
	defer shared.Close() //nolint:errcheck // nothing was written
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
func (c *Cache) Stored() bool { return c != nil && c.processRuns.stored.Load() }

// holdAlone keeps everybody from entering until the gate is closed.
func (c *Cache) holdAlone(ctx context.Context) (*flock.Flock, error) {
	lock := claim.Lock(c.lockFile())
	if _, err := lock.TryLockContext(ctx, claim.Patience); err != nil {
		return nil, fmt.Errorf("cache %s: nothing is removed, because it is unknown which runs use it: %w", c.dir, err)
	}
	return lock, nil
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
	since := first.Add(-clockSkew)
	return func(used time.Time) bool { return !used.Before(since) }
}
