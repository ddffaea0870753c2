package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// staleAfter is the age from which a temporary file belongs to no living run.
const staleAfter = 24 * time.Hour

// A File is being written and is no part of the cache until Commit.
type File struct {
	*os.File
	c    *Cache
	done bool
}

// Create begins a file. The caller defers Cleanup, which is a no-op after
// Commit.
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

// Commit makes the file h's. The caller vouches that its bytes are h's; readers
// check it all the same.
func (f *File) Commit(h v1.Hash) error {
	if err := os.MkdirAll(f.c.blobs(h.Algorithm), 0o755); err != nil {
		return err
	}
	return f.rename(f.c.path(h))
}

// rename syncs the file and moves it to path.
func (f *File) rename(path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	f.done = true
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		if err := os.RemoveAll(path); err != nil { // a directory in the way
			return errors.Join(err, os.Remove(f.Name()))
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	f.c.processRuns.stored.Store(true)
	return nil
}

// Cleanup gives the file up unless it was kept. It may be called more than once.
func (f *File) Cleanup() {
	if f.done {
		return
	}
	f.done = true
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// Sweep removes temporary files that a killed run left behind.
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
