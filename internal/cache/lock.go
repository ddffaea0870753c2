package cache

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// lockName is the file that stands for a directory that one user holds at a time.
const lockName = ".lock"

// patience is how often a lock that somebody else holds is asked for again.
const patience = 25 * time.Millisecond

// Claim holds a directory of the cache, which it creates, against other
// processes and goroutines until release or the end of the process, and marks it
// as used. release may be called more than once.
func (c *Cache) Claim(ctx context.Context, kind, key string) (dir string, release func(), err error) {
	dir, err = c.Dir(filepath.Join(kind, key))
	if err != nil {
		return "", nil, err
	}
	name := filepath.Join(dir, lockName)
	lock := flock.New(name)
	if _, err := lock.TryLockContext(ctx, patience); err != nil {
		return "", nil, err
	}
	touched(name)
	return dir, sync.OnceFunc(func() { _ = lock.Close() }), nil
}
