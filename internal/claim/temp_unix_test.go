//go:build unix

package claim_test

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
func TestTempSweeps(t *testing.T) {
	const prefix = "claim-test-"
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	old := time.Now().Add(-time.Hour)
	make := func(name string) string {
		dir := filepath.Join(temp, prefix+name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "f"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
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
	linked := filepath.Join(temp, prefix+"linked")
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
	own, remove, err := claim.Temp(t.Context(), prefix, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for dir, stays := range map[string]bool{dead: false, alive: true, young: true, unlocked: false, linked: true, trap: true, others: os.Geteuid() == 0} {
		if _, err := os.Lstat(dir); (err == nil) != stays {
			t.Errorf("%s: %v, stays %v", dir, err, stays)
		}
	}
	remove()
	remove()
	if _, err := os.Lstat(own); err == nil {
		t.Errorf("%s was not removed", own)
	}
	if files, err := os.ReadDir(victim); err != nil || len(files) > 0 {
		t.Errorf("%v, %v: something was made where a link leads", files, err)
	}
}
