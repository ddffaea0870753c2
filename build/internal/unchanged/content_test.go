package unchanged

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/cache"
)

// Content is that of the file, also after changes that keep its size and its modification
// time. It is remembered only for a file that had not just changed.
func TestContent(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{Cache: c}
	path := filepath.Join(t.TempDir(), "file")
	modified := time.Now().Add(-time.Hour)
	read := func() Program {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := s.Content(path, f)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i, text := range []string{"one", "two", "six", "one"} {
		for _, wait := range []time.Duration{0, 0, 2 * granularity, 0} {
			if wait == 0 && i%2 == 0 {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, modified, modified); err != nil {
					t.Fatal(err)
				}
			} else if wait == 0 {
				other := path + ".new"
				if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(other, path); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(wait)
			sum := sha256.Sum256([]byte(text))
			if p := read(); p.Content != hex.EncodeToString(sum[:]) || p.Size != int64(len(text)) {
				t.Fatalf("%s: %+v", text, p)
			}
		}
	}
	time.Sleep(2 * granularity)
	want := read()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if runtime.GOOS == "linux" && trusted(path) {
		identity, _ := stamp(f)
		var kept Program
		if identity == "" || !c.Load(contentKind, `"`+path+`" `+identity, &kept) || kept != want {
			t.Errorf("remembered is %+v, want %+v", kept, want)
		}
	}
}
