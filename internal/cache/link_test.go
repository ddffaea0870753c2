package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
)

// Links in a cache, as a checkout may contain them, are not followed: nothing is written or
// removed at their targets.
func TestPartsThatAreLinks(t *testing.T) {
	for _, part := range []string{"blobs", "blobs/sha256", "modules", "programs", "records", "runs", "tmp"} {
		dir, victim := t.TempDir(), t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, part)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
		if _, err := cache.Open(dir); hint.Of(err) == "" {
			t.Errorf("%s: %v", part, err)
		}
		if files, err := os.ReadDir(victim); err != nil || len(files) > 0 {
			t.Errorf("%s: %v, %v", part, files, err)
		}
	}
	// A program's directory that is a link is neither filled nor removed.
	dir, victim := t.TempDir(), t.TempDir()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(victim, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "programs"), 0o755), os.Symlink(victim, filepath.Join(dir, "programs", "key"))); err != nil {
		t.Fatal(err)
	}
	if _, release, err := c.Claim(t.Context(), "programs", "key"); err == nil {
		release()
		t.Error("a link was claimed")
	}
	if _, err := c.Prune(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(victim); err != nil || len(files) != 1 || files[0].Name() != "precious" {
		t.Errorf("%v, %v", files, err)
	}
}
