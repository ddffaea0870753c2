package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/stream"
)

// staleAfter is the age from which a temporary file counts as left behind by a killed
// run.
const staleAfter = 24 * time.Hour

// A File is a file that is being written. It is not part of the cache until
// [File.Commit]. It is not safe for concurrent use.
type File struct {
	*os.File
	c    *Cache
	done bool
}

// Create creates a temporary file in the cache. The caller defers [File.Cleanup], which
// does nothing after Commit. A nil Cache returns fs.ErrNotExist.
func (c *Cache) Create() (*File, error) {
	if c == nil {
		return nil, fs.ErrNotExist
	}
	f, err := os.CreateTemp(c.temp(), "new-*")
	if err != nil {
		return nil, err
	}
	return &File{File: f, c: c}, nil
}

// Commit makes the file the one of digest h and closes it. Commit does not compute the
// digest: the caller has done that while writing, and each reader compares it again.
func (f *File) Commit(h v1.Hash) error {
	if err := os.MkdirAll(f.c.blobs(h.Algorithm), 0o755); err != nil {
		return err
	}
	return f.rename(f.c.path(h))
}

// rename syncs and closes the file and renames it to path. The sync comes first: without
// it a crash could leave the name with incomplete content. A directory or link at path
// would make the rename fail or lead elsewhere, so it is removed. Two processes that
// store the same path replace each other's equal file.
func (f *File) rename(path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	f.done = true
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		if err := os.RemoveAll(path); err != nil { // not an entry of a cache
			return errors.Join(err, os.Remove(f.Name()))
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	f.c.processRuns.stored.Store(true)
	return nil
}

// Cleanup closes and removes the file unless it was committed. It may be called more than
// once.
func (f *File) Cleanup() {
	if f.done {
		return
	}
	f.done = true
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// Sweep removes temporary files older than a day, which a killed run left behind. A
// younger file may belong to another process that still writes it.
func (c *Cache) Sweep() error {
	if c == nil {
		return nil
	}
	entries, err := os.ReadDir(c.temp())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.temp(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

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
