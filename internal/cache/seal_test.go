package cache_test

import (
	"testing"

	"github.com/mabuild/mabuild/internal/cache"
)

// A cache with a key returns only records with a valid proof. The proof depends on kind,
// key, value and the secret.
func TestSealed(t *testing.T) {
	dir := t.TempDir()
	open := func(key string) *cache.Cache {
		var k []byte
		if key != "" {
			k = []byte(key)
		}
		c, err := cache.Sealed(dir, k)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	load := func(c *cache.Cache, key string) string {
		var v string
		if !c.Load("layer", key, &v) {
			return "-"
		}
		return v
	}
	if err := open("").Store("layer", "theirs", "forged"); err != nil {
		t.Fatal(err)
	}
	if err := open("other").Store("layer", "others", "forged"); err != nil {
		t.Fatal(err)
	}
	mine := open("mine")
	if err := mine.Store("layer", "mine", "good"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"theirs": "-", "others": "-", "mine": "good", "none": "-"} {
		if got := load(open("mine"), key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if got := load(open(""), "mine"); got != "good" { // no key, so no proof is required
		t.Errorf("without a key: %s", got)
	}
	if mine.Proof("a", "bc") == mine.Proof("ab", "c") || mine.Proof("a") == open("other").Proof("a") || open("").Proof("a") != "" {
		t.Error("proofs")
	}
}
