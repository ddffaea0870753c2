//go:build unix

package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/claim"
)

// A work directory of an ended run is removed. One that a run holds or has just made stays,
// and so do other users' directories and anything that is not a directory.
func TestSweepStale(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	old := time.Now().Add(-time.Hour)
	make := func(name string) string {
		dir := filepath.Join(temp, workPrefix+name)
		check(t, errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "f"), nil, 0o600)))
		return dir
	}
	dead, alive, young, unlocked := make("dead"), make("alive"), make("young"), make("unlocked")
	for _, dir := range []string{dead, alive} {
		release, err := claim.Dir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if dir == alive {
			defer release()
		} else {
			release()
		}
	}
	if err := os.Chtimes(unlocked, old, old); err != nil {
		t.Fatal(err)
	}
	victim := t.TempDir()
	linked := filepath.Join(temp, workPrefix+"linked")
	if err := os.Symlink(victim, linked); err != nil {
		t.Fatal(err)
	}
	trap := make("trap")
	if err := os.Symlink(filepath.Join(victim, "made"), filepath.Join(trap, ".lock")); err != nil {
		t.Fatal(err)
	}
	others := make("others")
	if os.Geteuid() == 0 { // no other can give a directory away
		if err := os.Chown(others, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{log: slog.New(slog.DiscardHandler)}
	defer a.close()
	if _, err := a.workDir(t.Context()); err != nil {
		t.Fatal(err)
	}
	for dir, stays := range map[string]bool{dead: false, alive: true, young: true, unlocked: false, linked: true, trap: true, others: os.Geteuid() == 0} {
		if _, err := os.Lstat(dir); (err == nil) != stays {
			t.Errorf("%s: %v, stays %v", dir, err, stays)
		}
	}
	if files, err := os.ReadDir(victim); err != nil || len(files) > 0 {
		t.Errorf("%v, %v: something was made where a link leads", files, err)
	}
}
