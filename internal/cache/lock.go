package cache

import (
	"context"
	"path/filepath"

	"github.com/mabuild/mabuild/internal/claim"
)

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
