package cache

import (
	"fmt"
	"io"
)

// zeros gives as many as are wanted.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Room says why the cache cannot take a file of n bytes; nil when it can, or when
// there is no cache.
func (c *Cache) Room(n int64) error {
	if c == nil {
		return nil
	}
	f, err := c.Create()
	if err != nil {
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	defer f.Cleanup()
	if _, err := io.CopyN(f, zeros{}, n); err != nil {
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	return nil
}
