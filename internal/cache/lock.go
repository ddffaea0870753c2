package cache

import (
	"context"
	"path/filepath"

	"github.com/mabuild/mabuild/internal/claim"
)

// Claim holds a directory of the cache, which it creates, against other
// processes and goroutines until release or the end of the process, and marks it
// as used. release may be called more than once.
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
