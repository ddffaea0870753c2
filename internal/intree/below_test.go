package intree

import (
	"os"
	"path/filepath"
	"testing"
)

// A cache is outside a tree only if neither its path nor the target of its links is inside.
func TestBelow(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree, outside := filepath.Join(top, "tree"), filepath.Join(top, "outside")
	for _, dir := range []string{filepath.Join(tree, "cache"), outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"tree/out": outside, "tree/back": "../tree/cache", "tree/self": "/proc/self/cwd/cache", "way": "tree/cache", "alias": "tree"} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(tree)
	for path, want := range map[string]bool{
		"cache": true, "new/cache": true, ".": true, "out": true, "out/x": true, "back": true, "self": true, filepath.Join(top, "way"): true, filepath.Join(top, "way/new"): true,
		filepath.Join(top, "alias/cache"): true, outside: false, filepath.Join(outside, "new/x"): false, "../outside": false, filepath.Join(top, "treehouse"): false,
	} {
		if got := Below(tree, path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
