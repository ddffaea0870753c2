// Package outfile writes the files that a person names: a regular one appears whole
// or stays as it was, and what is none (a device, a pipe) is written to and never
// replaced.
package outfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Temp begins the names of files that are not yet whole.
const Temp = ".mabuild-"

// Write has write make the content of path. Links are followed, so that what they
// lead to changes and they stay.
func Write(path string, write func(io.Writer) error) error {
	return replace(path, 0o644, false, write)
}

// WriteSecret is Write for what others may not read: a new file is for its owner alone,
// and one that is there keeps its mode.
func WriteSecret(path string, write func(io.Writer) error) error {
	return replace(path, 0o600, true, write)
}

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

// Streams reports whether path is written to as it is: it holds nothing that could
// be read before.
func Streams(path string) bool {
	_, stream := follow(path)
	return stream
}

// Check says what keeps Write from path, as far as that can be seen without writing:
// nil for a file, a device or a pipe, there or to be made in a directory that is.
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

// most is how many links are followed, as Linux does.
const most = 40

// follow returns the file that path leads to, which need not be there, and whether
// it is one to be written to as it is. A link of /proc leads to what has no name: it
// is its own.
func follow(path string) (target string, stream bool) {
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() {
			return path, !info.IsDir()
		}
		target, err := filepath.EvalSymlinks(path)
		if err != nil { // open, and removed
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

// into writes to what is there already.
func into(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// about names path in place of what a person never named.
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
