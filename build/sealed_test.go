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

// TestACacheOfAStranger: what somebody else put into a cache, programs that Go takes for
// up to date and records of layers, is in no image where the cache has a key.
func TestACacheOfAStranger(t *testing.T) {
	dir := newWorld(t, 1).dir
	publish := func(cache string, key []byte) v1.Hash {
		t.Helper()
		time.Sleep(100 * time.Millisecond) // files that are too young are not believed
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
		content = append(content, "evil"...) // with the build ID that Go looks for
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
	// The same without a key: it is what a key is for. The records of this run speak of
	// the forged program, and a key does not believe them either.
	forge(cache)
	if err := os.RemoveAll(filepath.Join(cache, "records")); err != nil {
		t.Fatal(err)
	}
	if got := publish(cache, nil); got == want {
		t.Error("the forged program was not taken: the test forges nothing")
	}
	if got := publish(cache, []byte("mine")); got != want {
		t.Error("forged records are believed")
	}
}
