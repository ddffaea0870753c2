package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// zeros gives as many as are wanted.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// FreeSpace says why the cache cannot take a file of n bytes; nil when it can, or when
// there is no cache.
func (c *Cache) FreeSpace(n int64) error {
	if c == nil {
		return nil
	}
	if err := FreeSpaceIn(c.temp(), n); err != nil {
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	return nil
}

// FreeSpaceIn says why dir cannot take a file of n bytes; nil when it can.
func FreeSpaceIn(dir string, n int64) error {
	f, err := os.CreateTemp(dir, "room-*")
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, zeros{}, n)
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
