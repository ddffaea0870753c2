package cache_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mabuild/mabuild/internal/cache"
)

// Bytes never returns content with another digest, whatever the file in the cache contains.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("content"))
	f.Add([]byte("contend"))
	f.Add([]byte{})
	dir := f.TempDir()
	c, err := cache.Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := hash(t, "content")
		if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", h.Hex), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := c.Bytes(h, 1<<20)
		if err == nil && string(b) != "content" || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file with %q gives %q, %v", raw, b, err)
		}
	})
}
