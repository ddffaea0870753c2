package unchanged

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/cache"
)

// A build record is removed if the same sources compile to a different program.
func TestContradictedRecordIsRemoved(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	was := storedRecord{Programs: map[string]Program{"amd64": {Content: "one", Size: 3}}}
	for _, content := range []string{"one", "two"} {
		r := &Record{store: &Store{Cache: c, Go: &crosscompile.Go{}}, key: "key", fresh: true, stored: was}
		now, err := r.stored.Scope.list(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.before, r.stored.Listing = now.digest, now.digest
		if err := c.Store("memory", "key", r.stored); err != nil {
			t.Fatal(err)
		}
		r.Add("amd64", Program{Content: content, Size: 3})
		r.Store()
		r.Store()
		var kept storedRecord
		if believed := c.Load("memory", "key", &kept); believed != (content == "one") {
			t.Errorf("compiled to %s: the build record is kept: %t: %+v", content, believed, kept)
		}
		if _, known := r.Program("amd64"); known != (content == "one") {
			t.Errorf("compiled to %s: the program is still known: %t", content, known)
		}
	}
}

// No build record is stored if a file appeared and vanished while the compiler ran, since
// the program may contain it.
func TestTemporaryFilePreventsRecord(t *testing.T) {
	for _, passing := range []bool{false, true} {
		c, err := cache.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		time.Sleep(2 * granularity)
		r := &Record{store: &Store{Cache: c, Go: &crosscompile.Go{}}, key: "key", stored: storedRecord{Scope: scope{Roots: []string{dir}}, Programs: map[string]Program{}}}
		now, err := r.stored.Scope.list(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.before, r.dirChanged = now.digest, now.moved
		if passing {
			file := filepath.Join(dir, "zz_generated.go")
			if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Remove(file)); err != nil {
				t.Fatal(err)
			}
		}
		r.Add("amd64", Program{Content: "one"})
		r.Store()
		if kept := c.Load("memory", "key", &storedRecord{}); kept == passing {
			t.Errorf("a file appeared and vanished: %t, build record stored: %t", passing, kept)
		}
	}
}
