// Package claim holds directories that several processes fill, use and remove: a
// lock on the file .lock in a directory stands for the directory. The time of that
// file says when the directory was used last.
//
// The lock goes with the directory. Who waited for it meanwhile holds a file that
// stands for nothing any more, sees that, and begins again.
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

const lockName = ".lock"

// Patience is how often a lock that somebody else holds is asked for again.
const Patience = 25 * time.Millisecond

// Dir makes a directory, holds it alone until release or the end of the process, and
// marks it as used. It waits for others until ctx ends. release may be called more
// than once.
func Dir(ctx context.Context, dir string) (release func(), err error) {
	return hold(ctx, dir, (*flock.Flock).TryLockContext)
}

// Share is Dir beside others who share.
func Share(ctx context.Context, dir string) (release func(), err error) {
	return hold(ctx, dir, (*flock.Flock).TryRLockContext)
}

func hold(ctx context.Context, dir string, try func(*flock.Flock, context.Context, time.Duration) (bool, error)) (release func(), err error) {
	name := filepath.Join(dir, lockName)
	for {
		made := os.MkdirAll(dir, 0o755)
		if err := itself(dir); err != nil {
			return nil, err
		}
		switch at := (*fs.PathError)(nil); {
		case errors.Is(made, fs.ErrExist) && errors.As(made, &at) && at.Path == dir: // and removed since
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
		case errors.Is(err, fs.ErrNotExist): // removed since it was made
			continue
		case err != nil:
			return nil, err
		case !Stands(lock):
			_ = lock.Close()
			continue
		}
		now := time.Now()
		_ = os.Chtimes(name, now, now) // only what is removed first is at stake
		return sync.OnceFunc(func() { _ = lock.Close() }), nil
	}
}

// itself refuses a directory that is a link: what is held, filled and removed would lie
// elsewhere.
func itself(dir string) error {
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		return &fs.PathError{Op: "lock", Path: dir, Err: syscall.ENOTDIR}
	}
	return nil // one that has just been removed is made again
}

// Stands reports whether a lock that is held is that of the file still that has its name.
func Stands(lock *flock.Flock) bool {
	mine, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(lock.Path())
	return err == nil && os.SameFile(mine, there)
}

// Lock returns the lock on a file, which is made where there is none. Only a regular file
// is locked: a link, which another user may have put there, is not followed, and a pipe is
// not waited for.
func Lock(name string) *flock.Flock {
	return flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDONLY|careful))
}

// Remove removes a directory with all that is in it, unless somebody holds it or it
// was used so lately that keep says so; a directory that nobody has held yet was used at
// the zero time. A lock that is no regular file is nobody's: the directory stays.
func Remove(dir string, keep func(used time.Time) bool) (removed bool, err error) {
	if err := itself(dir); err != nil {
		return false, nil //nolint:nilerr // it is not ours
	}
	name := filepath.Join(dir, lockName)
	info, err := os.Lstat(name)
	switch {
	case err == nil && (!info.Mode().IsRegular() || keep(info.ModTime())):
		return false, nil
	case errors.Is(err, fs.ErrNotExist) && keep(time.Time{}):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, nil // it is not ours to look at
	}
	var born time.Time // of a lock that is only made here
	if f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600); err == nil {
		if info, err := f.Stat(); err == nil {
			born = info.ModTime()
		}
		_ = f.Close()
	}
	lock := Lock(name)
	held, err := lock.TryLock()
	if err != nil || !held {
		return false, nil //nolint:nilerr // in use, or of somebody else: it stays
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	if info, err := lock.Stat(); err != nil || !Stands(lock) || !info.ModTime().Equal(born) && keep(info.ModTime()) {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != lockName { // which goes last: without it nobody is kept out
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return false, err
	}
	_ = os.Remove(name)
	_ = os.Remove(dir) // not while somebody has begun anew
	return true, nil
}
