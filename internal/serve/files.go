package serve

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/mabuild/mabuild/internal/stream"
)

// Every access of the store to the disk goes through the functions of this file.

// stat describes a regular file whose parent directories are real directories. Anything
// else, such as a link or a pipe, counts as missing (fs.ErrNotExist). os.Root keeps links
// inside the directory; this check excludes them altogether, so that one name never is
// the content of another.
func (s *Store) stat(name string) (fs.FileInfo, error) {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		info, err := s.root.Lstat(name[:i])
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("%s is not a directory: %w", name[:i], fs.ErrNotExist)
		}
	}
	info, err := s.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file: %w", name, fs.ErrNotExist)
	}
	return info, err
}

// open opens a regular file and returns its size. The file may be replaced between stat
// and Open, so the open file is checked again.
func (s *Store) open(name string) (*os.File, int64, error) {
	was, err := s.stat(name)
	if err != nil {
		return nil, 0, err
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(was, info) && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// read returns the content of a file of at most most bytes. A larger file is an error.
func (s *Store) read(name string, most int64) ([]byte, error) {
	f, size, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, size, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// list returns the names of the regular files in a directory, in no order. A directory
// that does not exist has none.
func (s *Store) list(dir string) ([]string, error) {
	info, err := s.root.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	entries, err := f.ReadDir(-1)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// mkdir creates a directory and its parents and syncs each parent that it changes: a
// rename into a directory that is not on disk yet would be lost in a crash. Something
// else at one of the names is an error.
func (s *Store) mkdir(dir string) error {
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		err := s.root.Mkdir(dir[:i], 0o755)
		switch {
		case err == nil:
			s.syncDir(path.Dir(dir[:i]))
		case !errors.Is(err, fs.ErrExist):
			return err
		}
		if info, err := s.root.Lstat(dir[:i]); err != nil || !info.IsDir() {
			return errors.Join(err, fmt.Errorf("%s is not a directory", dir[:i]))
		}
	}
	return nil
}

// syncDir syncs a directory, as far as the file system supports that. Errors are ignored.
func (s *Store) syncDir(dir string) {
	if f, err := s.root.Open(dir); err == nil {
		_ = f.Sync() // not every file system supports it
		_ = f.Close()
	}
}

// remove removes a regular file and syncs its directory.
func (s *Store) remove(name string) error {
	if _, err := s.stat(name); err != nil {
		return err
	}
	if err := s.root.Remove(name); err != nil {
		return err
	}
	s.syncDir(path.Dir(name))
	return nil
}

// create creates a new file in uploadsDir. The caller closes it.
func (s *Store) create(id string) (*os.File, error) {
	if err := s.failing("create"); err != nil {
		return nil, err
	}
	return s.root.OpenFile(path.Join(uploadsDir, id), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// write replaces the content of a file, completely or not at all.
func (s *Store) write(name string, content []byte) error {
	temp, err := s.spool(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	if err := s.publish(temp, name); err != nil {
		_ = s.root.Remove(temp) // the first error says it
		return err
	}
	return nil
}

// spool copies a body of at most most bytes to a new file in uploadsDir and returns its
// name in the store. The caller publishes or removes the file. On an error the file is
// removed.
func (s *Store) spool(body io.Reader, most int64) (name string, err error) {
	id := rand.Text()
	f, err := s.create(id)
	if err != nil {
		return "", err
	}
	name = path.Join(uploadsDir, id)
	n, err := io.Copy(s.writer(f), io.LimitReader(fromClient(body), most+1))
	if err == nil && n > most {
		err = refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "more than %d bytes", most)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.root.Remove(name) // the first error says it
		return "", err
	}
	return name, nil
}

// publish syncs a file and renames it to its final name. The order is: content, parent
// directories, rename, directory. After a crash at any step the final name has the old or
// the new content, and a file in uploadsDir is removed at the next start. uploadsDir is
// on the same file system, which a rename requires.
func (s *Store) publish(temp, name string) error {
	f, err := s.root.OpenFile(temp, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = errors.Join(s.failing("sync"), f.Sync())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := s.failing("rename"); err != nil {
		return err
	}
	if err := s.root.Rename(temp, name); err != nil {
		return err
	}
	s.syncDir(path.Dir(name))
	return nil
}

// failing returns the error that a test injects for a step, else nil.
func (s *Store) failing(step string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(step)
}

// fromClient marks the errors of a request's body as [readError].
func fromClient(body io.Reader) io.Reader {
	return stream.MapError(body, func(err error) error { return readError{err} })
}

// writer writes to a file and lets a test fail the write.
func (s *Store) writer(f *os.File) io.Writer {
	return stream.Writer(func(p []byte) (int, error) {
		if err := s.failing("write"); err != nil {
			return 0, err
		}
		return f.Write(p)
	})
}
