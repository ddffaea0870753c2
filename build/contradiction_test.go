package build

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/cache"
)

// A build record is removed if the same sources compile to a different program.
func TestContradictedRecordIsRemoved(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &Builder{cache: c}
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	was := storedRecord{Programs: map[string]compiled{programKey(p, Compile{}): {Content: "one", Size: 3}}}
	for _, content := range []string{"one", "two"} {
		r := &buildRecord{key: "key", fresh: true, record: was}
		now, err := r.record.Scope.list(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.before, r.record.Listing = now.digest, now.digest
		if err := c.Store("memory", "key", r.record); err != nil {
			t.Fatal(err)
		}
		r.add(p, Compile{}, entry{content: content, size: 3})
		b.storeRecord(r)
		b.storeRecord(r)
		var kept storedRecord
		if believed := c.Load("memory", "key", &kept); believed != (content == "one") {
			t.Errorf("compiled to %s: the build record is kept: %t: %+v", content, believed, kept)
		}
		if _, known := r.program(p, Compile{}); known != (content == "one") {
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
		b, dir := &Builder{cache: c}, t.TempDir()
		time.Sleep(2 * granularity)
		r := &buildRecord{key: "key", record: storedRecord{Scope: scope{Roots: []string{dir}}, Programs: map[string]compiled{}}}
		now, err := r.record.Scope.list(nil)
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
		r.add(ocispec.Platform{OS: "linux", Architecture: "amd64"}, Compile{}, entry{content: "one"})
		b.storeRecord(r)
		if kept := c.Load("memory", "key", &storedRecord{}); kept == passing {
			t.Errorf("a file appeared and vanished: %t, build record stored: %t", passing, kept)
		}
	}
}
