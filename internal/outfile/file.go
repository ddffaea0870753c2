package outfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// A File is written under a name of its own, which begins with [Temp], and gets its last
// name whole or not at all. The caller defers Cleanup.
type File struct {
	*os.File
	closed, named bool
}

// Create begins a file in dir, where its last name must be on the same file system.
func Create(dir string) (*File, error) {
	f, err := os.CreateTemp(dir, Temp+"*")
	if err != nil {
		return nil, err
	}
	return &File{File: f}, nil
}

// Finish writes the file to the disk and closes it.
func (f *File) Finish(mode fs.FileMode) error {
	f.closed = true
	err := f.Chmod(mode)
	if runtime.GOOS == "windows" {
		err = nil // has no such modes
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// Rename finishes the file and gives it its name.
func (f *File) Rename(path string, mode fs.FileMode) error {
	if err := f.Finish(mode); err != nil {
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

// Cleanup removes a file that did not get its name; after Rename it does nothing.
func (f *File) Cleanup() {
	if !f.closed {
		_ = f.Close()
	}
	if !f.named {
		_ = os.Remove(f.Name())
	}
}
