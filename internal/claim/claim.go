// Package claim locks directories that several processes fill, use and remove. A lock on
// the file .lock in a directory stands for the directory. The modification time of that
// file says when the directory was used last.
//
// [Remove] removes the lock file with the directory. A process that waited for the lock
// meanwhile then holds a file that no longer has a name. [Dir] and [Share] detect that
// with [Stands] and begin again, so that two holders never hold different files of one
// name.
//
// The locks are advisory (flock, or LockFileEx on Windows): they keep out only programs
// that use this package. They end with the process, so that a killed run leaves nothing
// locked.
package claim

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// lockName is the lock file in each directory.
const lockName = ".lock"

// Patience is the time between two attempts to get a lock that is held elsewhere.
const Patience = 25 * time.Millisecond

// Dir creates a directory, holds it exclusively until release or the end of the process,
// and marks it as used. It waits for other holders until ctx ends; the error is then the
// cause of ctx. Goroutines of one process exclude each other in the same way. release may
// be called more than once.
func Dir(ctx context.Context, dir string) (release func(), err error) {
	return hold(ctx, dir, (*flock.Flock).TryLockContext)
}

// Share is [Dir] with a shared lock: holders that share do not exclude each other, but
// they exclude Dir and [Remove].
func Share(ctx context.Context, dir string) (release func(), err error) {
	return hold(ctx, dir, (*flock.Flock).TryRLockContext)
}

// hold creates dir and locks its lock file with try. Another process may remove the
// directory at any moment before the lock is held, so each step that finds it gone starts
// the loop again. Only ctx bounds the number of rounds.
func hold(ctx context.Context, dir string, try func(*flock.Flock, context.Context, time.Duration) (bool, error)) (release func(), err error) {
	name := filepath.Join(dir, lockName)
	for {
		made := os.MkdirAll(dir, 0o755)
		if err := itself(dir); err != nil {
			return nil, err
		}
		switch at := (*fs.PathError)(nil); {
		case errors.Is(made, fs.ErrExist) && errors.As(made, &at) && at.Path == dir: // removed meanwhile
			continue
		case made != nil:
			return nil, made
		}
		lock := Lock(name)
		_, err := try(lock, ctx, Patience)
		switch {
		case ctx.Err() != nil:
			_ = lock.Close()
			return nil, context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist): // the directory was removed after it was made
			continue
		case err != nil:
			return nil, err
		case !Stands(lock):
			_ = lock.Close()
			continue
		}
		now := time.Now()
		_ = os.Chtimes(name, now, now) // a failure changes only the order of pruning
		return sync.OnceFunc(func() { _ = lock.Close() }), nil
	}
}

// itself refuses a directory that is a symbolic link or not a directory: files would be
// locked, written and removed elsewhere. A directory that does not exist is accepted,
// since [hold] makes it again.
func itself(dir string) error {
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		return &fs.PathError{Op: "lock", Path: dir, Err: syscall.ENOTDIR}
	}
	return nil
}

// Stands reports whether the file that lock holds still is the file at lock's path. It is
// false if the file was removed, or removed and made again, while the caller waited for
// the lock.
func Stands(lock *flock.Flock) bool {
	mine, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(lock.Path())
	return err == nil && os.SameFile(mine, there)
}

// Lock returns the lock on a file, which locking creates if it does not exist. Only a
// regular file is locked: a symbolic link, which another user may have put there, is not
// followed, and a named pipe does not block. The caller locks and closes it.
func Lock(name string) *flock.Flock {
	return flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDONLY|careful))
}

// Remove removes a directory and everything in it, unless it is held or keep returns true
// for the time of its last use. A directory without a lock file has the zero time. A lock
// file that is not a regular file belongs to another program, and the directory stays.
// Remove never waits for a lock.
//
// keep is asked twice: before the lock is taken, so that a directory in use costs no
// lock, and again under the lock, since a run may have used the directory in between. The
// lock file is removed last: without it a new holder would not be kept out while the rest
// is removed.
func Remove(dir string, keep func(used time.Time) bool) (removed bool, err error) {
	if err := itself(dir); err != nil {
		return false, nil //nolint:nilerr // it is a link and stays
	}
	name := filepath.Join(dir, lockName)
	info, err := os.Lstat(name)
	switch {
	case err == nil && (!info.Mode().IsRegular() || keep(info.ModTime())):
		return false, nil
	case errors.Is(err, fs.ErrNotExist) && keep(time.Time{}):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, nil // it cannot be read and stays
	}
	var born time.Time // of a lock file that is created here: its time is not a use
	if f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600); err == nil {
		if info, err := f.Stat(); err == nil {
			born = info.ModTime()
		}
		_ = f.Close()
	}
	lock := Lock(name)
	held, err := lock.TryLock()
	if err != nil || !held {
		return false, nil //nolint:nilerr // in use, or not lockable: it stays
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	if info, err := lock.Stat(); err != nil || !Stands(lock) || !info.ModTime().Equal(born) && keep(info.ModTime()) {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != lockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return false, err
	}
	_ = os.Remove(name)
	_ = os.Remove(dir) // fails if another process has made a file in it since
	return true, nil
}
