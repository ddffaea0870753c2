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

// workPath is the work directory, for the end that leaves no time.
var workPath atomic.Pointer[string]

const (
	workPrefix = "mabuild-work-"
	// bornAfter is how long a run may take from making its work directory to locking it.
	bornAfter = time.Minute
)

// workDir makes the directory that the run's files live in until it ends, and
// sweeps away those of runs that were killed.
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
	release, err := claim.Dir(ctx, dir)
	if err != nil { // where files cannot be locked, others leave it alone while it is young
		a.log.Debug("the work directory is not locked", "err", err)
		release = func() {}
	}
	a.work = dir
	workPath.Store(&dir)
	a.ends = append(a.ends, func() {
		release() // or it could not be removed everywhere
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

// sweepStale removes this user's work directories in which no run lives.
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
		_, _ = claim.Remove(dir, func(used time.Time) bool { return used.IsZero() && young }) // what is left is swept by the next
	}
}
