package main

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/mabuild/mabuild/build"
)

// workPath is the work directory, for the end that leaves no time.
var workPath atomic.Pointer[string]

const (
	workPrefix = "mabuild-work-"
	workLock   = ".lock" // held as long as the run lives
	staleAfter = 24 * time.Hour
)

// workDir makes the directory that the run's files live in until it ends, and
// sweeps away those of runs that were killed.
func (a *app) workDir() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.work != "" {
		return a.work, nil
	}
	sweepStale()
	dir, err := os.MkdirTemp("", workPrefix)
	if err != nil {
		return "", &build.WorkError{Dir: os.TempDir(), Err: err}
	}
	lock := flock.New(filepath.Join(dir, workLock))
	if _, err := lock.TryLock(); err != nil { // its age has to do
		a.log.Debug("the work directory is not locked", "err", err)
	}
	a.work = dir
	workPath.Store(&dir)
	a.ends = append(a.ends, func() {
		_ = lock.Close() // or it could not be removed everywhere
		sweepNow()
	})
	return dir, nil
}

// sweepNow removes the work directory of this run.
func sweepNow() {
	if dir := workPath.Swap(nil); dir != nil {
		_ = os.RemoveAll(*dir) // the next run sweeps what is left
	}
}

// sweepStale removes work directories that are old and of no living run.
func sweepStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), workPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		lock := flock.New(filepath.Join(dir, workLock))
		if mine, err := lock.TryLock(); err != nil || !mine {
			continue // alive, or another user's
		}
		_ = lock.Close()
		_ = os.RemoveAll(dir) // what is left is swept by the next
	}
}
