package outfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// A File is written under a temporary name, which begins with [Temp]. [File.Rename] gives
// it its final name when it is complete. The caller defers Cleanup, which makes each
// early return leave nothing behind. A process that is killed leaves the temporary file.
// A File is for one goroutine.
type File struct {
	*os.File
	closed, named bool
}

// Create begins a file in dir, which must be on the file system of the final name: a
// rename between file systems is not possible. The file is for its owner alone until
// Finish.
func Create(dir string) (*File, error) {
	f, err := os.CreateTemp(dir, Temp+"*")
	if err != nil {
		return nil, err
	}
	return &File{File: f}, nil
}

// Finish sets the mode, without regard to the umask, writes the file to the disk and
// closes it. The sync comes before any rename: without it a crash of the machine could
// leave the final name with no content.
func (f *File) Finish(mode fs.FileMode) error {
	f.closed = true
	err := f.Chmod(mode)
	if runtime.GOOS == "windows" {
		err = nil // Windows has only a read-only bit
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// Rename finishes the file and gives it its final name, replacing what has that name. On
// POSIX systems a reader of path sees the old file or the new one, complete. The entry of
// the directory is synced as well where the file system supports it; a failure of that is
// ignored, since the file is in place.
func (f *File) Rename(path string, mode fs.FileMode) error {
	if err := f.Finish(mode); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	f.named = true
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync() // some file systems cannot sync a directory
		_ = dir.Close()
	}
	return nil
}

// Cleanup closes and removes a file that did not get its final name. After a successful
// Rename it does nothing.
func (f *File) Cleanup() {
	if !f.closed {
		_ = f.Close()
	}
	if !f.named {
		_ = os.Remove(f.Name())
	}
}
