package build_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
)

// A cache that has a key never puts forged content into an image: neither programs that Go
// considers up to date nor build records.
func TestForgedCacheIsNotUsed(t *testing.T) {
	dir := newWorld(t, 1).dir
	publish := func(cache string, key []byte) v1.Hash {
		t.Helper()
		time.Sleep(100 * time.Millisecond) // files that are too young are not recorded
		b := &build.Builder{Work: t.TempDir(), Cache: cache, CacheKey: key}
		r, err := b.Build(t.Context(), build.Spec{Dir: dir, Name: "app", Platforms: parse(t, "linux/amd64")}, build.Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		digest, err := r.Index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	forge := func(cache string) {
		t.Helper()
		programs, err := filepath.Glob(filepath.Join(cache, "programs", "*", "app"))
		if err != nil || len(programs) != 1 {
			t.Fatal(programs, err)
		}
		content, err := os.ReadFile(programs[0])
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, "evil"...) // keeps the build ID that Go checks
		sum := sha256.Sum256(content)
		err = errors.Join(os.WriteFile(programs[0], content, 0o755),
			os.WriteFile(filepath.Join(filepath.Dir(programs[0]), ".sha256"), []byte(hex.EncodeToString(sum[:])), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	cache := t.TempDir()
	want := publish(cache, nil)
	forge(cache)
	if err := os.RemoveAll(filepath.Join(cache, "records")); err != nil {
		t.Fatal(err)
	}
	if got := publish(cache, []byte("mine")); got != want {
		t.Error("a forged program is in the image")
	}
	// Without a key the forged program is used, which shows that the forgery works. The
	// build record of this run then names the forged program, and a run with a key ignores
	// that record.
	forge(cache)
	if err := os.RemoveAll(filepath.Join(cache, "records")); err != nil {
		t.Fatal(err)
	}
	if got := publish(cache, nil); got == want {
		t.Error("the forged program was not used without a key: the forgery does not work")
	}
	if got := publish(cache, []byte("mine")); got != want {
		t.Error("a forged build record was used")
	}
}
