package local

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// A file appears under its name whole or not at all.
type file struct {
	*os.File
	closed bool
	named  bool
}

// newFile begins a file in dir, where its last name must be on the same file
// system.
func newFile(dir string) (*file, error) {
	f, err := os.CreateTemp(dir, temp+"*")
	if err != nil {
		return nil, err
	}
	return &file{File: f}, nil
}

// finish brings what was written to the disk, readable by everybody.
func (f *file) finish() error {
	f.closed = true
	err := f.Chmod(0o644)
	if runtime.GOOS == "windows" {
		err = nil // has no such modes
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// rename finishes the file and gives it its name.
func (f *file) rename(path string) error {
	if err := f.finish(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	f.named = true
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync() // not every file system can
		_ = dir.Close()
	}
	return nil
}

// cleanup removes what did not get its name; after rename it does nothing.
func (f *file) cleanup() {
	if !f.closed {
		_ = f.Close()
	}
	if !f.named {
		_ = os.Remove(f.Name())
	}
}
