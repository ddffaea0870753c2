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

// clockSkew is the largest difference between the clock of the file system and the clocks
// of its users that the cache allows for.
const clockSkew = 2 * time.Second

// A processRuns is what this process does with one cache directory, over all Caches that
// it opened there. Locks of files do not tell that: two Caches of one process have locks
// that are independent of each other.
//
// A run is the time from [Cache.Hold] to its leave function. It is a file in the
// directory runs, whose modification time is the start of the run and which the run keeps
// locked. A file that is not locked belongs to a run that ended without removing it.
type processRuns struct {
	runs   atomic.Int32 // calls of Hold without leave
	stored atomic.Bool  // something was stored since this process pruned last
}

var allProcessRuns sync.Map // from absolute directory (string) to *processRuns

// processRunsOf returns the processRuns of a directory, one for each absolute path.
func processRunsOf(dir string) *processRuns {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	h, _ := allProcessRuns.LoadOrStore(dir, &processRuns{})
	return h.(*processRuns)
}

// lockFile is the file that orders Hold and Prune. Hold locks it shared, only while it
// creates the file of its run. Prune locks it exclusively, so that no run starts while
// something is removed.
func (c *Cache) lockFile() string { return filepath.Join(c.runs(), "gate") }

// Hold begins a run: what the run finds, stores or claims from now on is not pruned until
// leave, or the end of the process. leave may be called more than once, and is never nil.
// On an error, for example if files cannot be locked, the run may continue without
// protection.
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
		_ = os.Remove(lock.Path()) // Prune removes it otherwise
	}), nil
}

// HoldForever is [Cache.Hold] for as long as c is in use. It does nothing between a Hold
// of this process and its leave, which protect the same entries.
func (c *Cache) HoldForever(ctx context.Context) (err error) {
	if c == nil || c.processRuns.runs.Load() > 0 {
		return nil
	}
	if c.forever, err = c.hold(ctx); err != nil { // the lock ends with c or the process
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	return nil
}

// Claim creates the directory key below the directory of kind, holds it exclusively
// against other processes and goroutines, and marks it as used. release, or the end of
// the process, ends that; release may be called more than once. key must be a single file
// name. Claim waits for other holders until ctx ends.
func (c *Cache) Claim(ctx context.Context, kind, key string) (dir string, release func(), err error) {
	parent, err := c.Dir(kind)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(parent, key)
	if release, err = claim.Dir(ctx, dir); err != nil {
		return "", nil, err
	}
	c.processRuns.stored.Store(true)
	return dir, release, nil
}

// hold creates and locks the file of a run. The lock file is held shared meanwhile:
// without it Prune could see the new file before it is locked and take it for one of a
// dead run.
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

// Stored reports whether this process has stored or claimed anything since it pruned the
// cache last. If not, pruning is not necessary.
func (c *Cache) Stored() bool { return c != nil && c.processRuns.stored.Load() }

// holdAlone waits until no run is starting and prevents new runs until the lock is
// closed.
func (c *Cache) holdAlone(ctx context.Context) (*flock.Flock, error) {
	lock := claim.Lock(c.lockFile())
	if _, err := lock.TryLockContext(ctx, claim.Patience); err != nil {
		return nil, fmt.Errorf("cache %s: nothing is removed, because it is unknown which runs use it: %w", c.dir, err)
	}
	return lock, nil
}

// needed returns a function that reports whether an entry that was used at a given time
// must stay: it was used since the oldest live run started. It also removes the files of
// runs that ended without removing them. The caller holds the lock of [Cache.holdAlone].
// If the runs cannot be listed, everything stays.
func (c *Cache) needed() func(used time.Time) bool {
	first := time.Time{}
	files, err := filepath.Glob(filepath.Join(c.runs(), "run-*"))
	if err != nil {
		return func(time.Time) bool { return true }
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue // the run has ended meanwhile
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
