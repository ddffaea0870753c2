package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/hint"
)

// A directory with other content is never used as a cache, since Prune could remove that
// content. A directory of an older mabuild, or a new empty volume, is accepted.
func TestOnlyCachesAreCaches(t *testing.T) {
	for _, c := range []struct {
		has []string
		is  bool
	}{
		{nil, true},
		{[]string{"blobs/sha256/x", "records/y"}, true},
		{[]string{"lost+found/x", ".keep"}, true},
		{[]string{"modules/vpc/main.tf", "main.tf"}, false},
		{[]string{"CACHEDIR.TAG"}, false}, // the tag file without its signature
		{[]string{"CACHEDIR.TAG=", "blobs/sha256/x"}, true},
		{[]string{"CACHEDIR.TAG=Signature: 8a4", "tmp/x"}, true},
	} {
		dir := t.TempDir()
		for _, name := range c.has {
			name, content, given := strings.Cut(name, "=")
			if !given {
				content = "x"
			}
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			_, err := cache.Open(dir)
			if c.is && err != nil || !c.is && hint.KindOf(err) != hint.Usage {
				t.Errorf("%v: %v", c.has, err)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "tmp")); c.is != (err == nil) {
			t.Errorf("%v: directories were created: %t", c.has, err == nil)
		}
	}
	if _, err := cache.Open(""); err == nil {
		t.Error("the working directory was accepted as a cache")
	}
}
