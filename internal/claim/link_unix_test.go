//go:build unix

package claim_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/claim"
)

// A link, a pipe or a directory in place of a lock file may come from another user. No file
// is created at the link's target, no call blocks, and the directory stays.
func TestLockFileOfAnotherType(t *testing.T) {
	for name, put := range map[string]func(lock, target string) error{
		"link":      func(lock, target string) error { return os.Symlink(target, lock) },
		"pipe":      func(lock, _ string) error { return syscall.Mkfifo(lock, 0o666) },
		"directory": func(lock, _ string) error { return os.Mkdir(lock, 0o755) },
	} {
		dir, target := t.TempDir(), filepath.Join(t.TempDir(), "victim")
		if err := put(filepath.Join(dir, ".lock"), target); err != nil {
			t.Fatal(err)
		}
		if removed, err := claim.Remove(dir, never); removed || err != nil {
			t.Errorf("%s: removed %v, %v", name, removed, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		release, err := claim.Dir(ctx, dir)
		if err == nil {
			release()
		}
		if name == "link" && err == nil || ctx.Err() != nil {
			t.Errorf("%s: claimed, %v", name, err)
		}
		cancel()
		if _, err := os.Lstat(target); err == nil {
			t.Errorf("%s: a file was created outside", name)
		}
	}
}

// A directory that was never claimed has the zero time as its last use.
func TestUnclaimedDirectoryHasZeroTime(t *testing.T) {
	dir := t.TempDir()
	if removed, err := claim.Remove(dir, func(used time.Time) bool { return used.IsZero() }); removed || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
	if removed, err := claim.Remove(dir, never); !removed || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
}
