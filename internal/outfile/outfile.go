// Package outfile writes the files that a user names, and files that others must never
// see incomplete. A regular file appears complete or stays as it was. Anything else that
// can be written to (a device, a pipe) is written to directly and never replaced; a
// failure can leave a part in it.
//
// The package does not lock: of two writers of one path the last one wins. It makes no
// directories.
package outfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Temp begins the names of files that are not complete yet. Cleaners of directories
// recognise them by it.
const Temp = ".mabuild-"

// Write replaces path by what write writes, with mode 0644. If write fails, path is
// unchanged and the error is that of write. Symbolic links are followed: the file that
// they lead to changes and the links stay. Errors of the file system name path.
func Write(path string, write func(io.Writer) error) error {
	return replace(path, 0o644, false, write)
}

// WriteSecret is Write for secrets: a new file has mode 0600, and an existing file keeps
// its mode.
func WriteSecret(path string, write func(io.Writer) error) error {
	return replace(path, 0o600, true, write)
}

// replace does the work of Write. keep makes an existing file keep its mode, in place of
// mode.
func replace(path string, mode fs.FileMode, keep bool, write func(io.Writer) error) error {
	target, stream := follow(path)
	if stream {
		return into(target, write)
	}
	f, err := Create(filepath.Dir(target))
	if err != nil {
		return about(path, err)
	}
	defer f.Cleanup()
	if info, err := os.Stat(target); keep && err == nil {
		mode = info.Mode().Perm()
	}
	if err := write(f); err != nil {
		return err
	}
	return about(path, f.Rename(target, mode))
}

// Streams reports whether Write would write to path directly: path exists and is neither
// a regular file nor a directory, or it leads to an open file that was removed. A caller
// must not look for earlier content in it.
func Streams(path string) bool {
	_, stream := follow(path)
	return stream
}

// Check returns why Write would fail, as far as can be seen without writing. It returns
// nil for a device or a pipe, and for a file, existing or not, in an existing directory.
// It does not test permissions.
func Check(path string) error {
	target, stream := follow(path)
	if stream {
		return nil
	}
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	switch info, err := os.Stat(filepath.Dir(target)); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: the directory %s does not exist", path, filepath.Dir(target))
	case err != nil:
		return about(path, err)
	case !info.IsDir():
		return fmt.Errorf("%s: %s is not a directory", path, filepath.Dir(target))
	}
	return nil
}

// most is the number of links that are followed, the limit of Linux.
const most = 40

// follow returns the file that path leads to, which need not exist, and whether it is to
// be written to directly. It resolves a link by hand if the target does not exist, as
// filepath.EvalSymlinks cannot. A link in /proc/self/fd can lead to a file that was
// removed and has no name any more; it is written to by the name of the link.
func follow(path string) (target string, stream bool) {
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() {
			return path, !info.IsDir()
		}
		target, err := filepath.EvalSymlinks(path)
		if err != nil { // an open file that was removed
			return path, true
		}
		return target, false
	}
	target = path
	for range most {
		next, err := os.Readlink(target)
		if err != nil {
			break
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(target), next)
		}
		target = next
	}
	return target, false
}

// into writes to an existing device or pipe. It neither creates nor truncates.
func into(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// about makes err name path, since a user does not know the temporary file that it names.
func about(path string, err error) error {
	if err == nil {
		return nil
	}
	cause := err
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		cause = p.Err
	case errors.As(err, &l):
		cause = l.Err
	}
	return &fs.PathError{Op: "write", Path: path, Err: cause}
}

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
