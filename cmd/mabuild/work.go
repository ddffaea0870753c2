package main

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/mabuild/mabuild/internal/claim"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
)

// workPath is the work directory of this process. It is global and atomic because the
// goroutine that ends an interrupted process removes the directory while the app may be
// locked.
var workPath atomic.Pointer[string]

const (
	workPrefix = "mabuild-work-"
	// bornAfter is the maximum age of a directory that may not be locked yet: the time a
	// run may take between creating and locking it.
	bornAfter = time.Minute
)

// workDir returns the directory for the temporary files of this run, and creates it when
// it is first called. It is locked for as long as the run lives, which tells other runs
// not to remove it. Directories of runs that were killed are removed first.
func (a *app) workDir(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.work != "" {
		return a.work, nil
	}
	sweepStale()
	dir, err := os.MkdirTemp("", workPrefix)
	if err != nil {
		return "", hint.New(hint.Build, "set TMPDIR to use another directory", "work directory %s: %w", os.TempDir(), err)
	}
	// If files cannot be locked here, others leave the directory alone while it is young.
	release, err := claim.Dir(ctx, dir)
	if err != nil {
		a.log.Debug("the work directory is not locked", "err", err)
		release = func() {}
	}
	a.work = dir
	workPath.Store(&dir)
	a.ends = append(a.ends, func() {
		// An open lock file could prevent the removal on some systems.
		release()
		sweepNow()
	})
	return dir, nil
}

// sweepNow removes the work directory of this run. It may be called twice, also
// concurrently: only the first call finds the path.
func sweepNow() {
	if dir := workPath.Swap(nil); dir != nil {
		_ = os.RemoveAll(*dir) // else sweepStale does
	}
}

// sweepStale removes the work directories of this user that no run has locked. A young
// one without a lock is kept, since its run may be about to lock it. Directories of other
// users are ignored: the temporary directory is shared.
func sweepStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), workPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || !intree.Mine(info) {
			continue
		}
		young := time.Since(info.ModTime()) < bornAfter
		_, _ = claim.Remove(dir, func(used time.Time) bool { return used.IsZero() && young })
	}
}
