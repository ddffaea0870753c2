package claim

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/mabuild/mabuild/internal/intree"
)

// bornAfter is the maximum age of a directory that may not be locked yet: the time that
// [Temp] may take between creating and locking it.
const bornAfter = time.Minute

// Temp creates a directory for the temporary files of one run, whose name begins with
// prefix. It is locked for as long as the run lives, which tells other runs not to remove
// it. Directories of this prefix whose runs were killed are removed first.
//
// remove removes the directory. It may be called again and concurrently; only the first call
// does something, and the others don't wait for it.
func Temp(ctx context.Context, prefix string, log *slog.Logger) (dir string, remove func(), err error) {
	sweep(prefix)
	if dir, err = os.MkdirTemp("", prefix); err != nil {
		return "", nil, err
	}
	// If files cannot be locked here, others leave the directory alone while it is young.
	release, err := Dir(ctx, dir)
	if err != nil {
		log.Debug("the work directory is not locked", "err", err)
		release = func() {}
	}
	var removed atomic.Bool
	return dir, func() {
		if removed.CompareAndSwap(false, true) {
			// An open lock file could prevent the removal on some systems.
			release()
			_ = os.RemoveAll(dir) // else sweep does
		}
	}, nil
}

// sweep removes the directories of this user that no run has locked. A young one without a
// lock is kept, since its run may be about to lock it. Directories of other users are
// ignored: the temporary directory is shared.
func sweep(prefix string) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || !intree.Mine(info) {
			continue
		}
		young := time.Since(info.ModTime()) < bornAfter
		_, _ = Remove(dir, func(used time.Time) bool { return used.IsZero() && young })
	}
}
