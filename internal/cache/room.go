package cache

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mabuild/mabuild/internal/stream"
)

// FreeSpace returns why the cache cannot store a file of n bytes, or nil if it can or if
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

// FreeSpaceIn returns why dir cannot store a file of n bytes, or nil if it can. It writes
// and removes such a file: a file system may have limits, such as a quota, that its count
// of free bytes does not show. The space is not reserved.
func FreeSpaceIn(dir string, n int64) error {
	f, err := os.CreateTemp(dir, "room-*")
	if err != nil {
		return err
	}
	zeros := stream.Reader(func(p []byte) (int, error) {
		clear(p)
		return len(p), nil
	})
	_, err = io.CopyN(f, zeros, n)
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
