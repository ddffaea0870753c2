package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/intree"
)

// cacheKeyEnv holds the secret that proves what a cache remembers.
const cacheKeyEnv = "MABUILD_CACHE_KEY"

// cacheKey returns the secret that records of the cache are proved with, nil where the
// cache lies outside the tree and they need no proof. A cache in the tree may have come
// with a checkout: what it says of programs and layers would be a stranger's word. The
// secret is the environment's, or one that is kept beside the person's own file; without
// either, nothing is believed that this run has not stored.
func (a *app) cacheKey() []byte {
	a.keyed.Do(func() { a.key = a.findKey() })
	return a.key
}

func (a *app) findKey() []byte {
	if text := os.Getenv(cacheKeyEnv); text != "" {
		sum := sha256.Sum256([]byte(text))
		return sum[:]
	}
	tree := a.config.Tree()
	if a.cache == "" || tree == "" || !below(tree, a.cache) {
		return nil
	}
	file := config.UserFile(os.LookupEnv)
	if file != "" && !below(tree, filepath.Dir(file)) {
		if key, err := ownKey(filepath.Join(filepath.Dir(file), "cache.key")); err == nil {
			return key
		}
	}
	a.log.Warn("the cache " + a.cache + " is inside the source tree, so its records are ignored; to use them, set " + cacheKeyEnv)
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

// below reports whether a path lies below a directory: as it is written, or where it
// leads. Only what does neither is outside, since the tree may have the links on the way.
func below(dir, path string) bool {
	tree, err := intree.New(dir)
	if err != nil {
		return false
	}
	defer tree.Close() //nolint:errcheck // only looked at
	if _, err = tree.Resolve(path); err == nil || !errors.Is(err, intree.ErrOutside) {
		return true
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return true
	}
	within := func(path string) bool {
		for _, dir := range []string{dir, tree.Dir()} {
			if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
				return true
			}
		}
		return false
	}
	for at := abs; ; at = filepath.Dir(at) { // as far as it exists
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return within(abs) || within(real)
		}
		if at == filepath.Dir(at) {
			return within(abs)
		}
	}
}

// ownKey reads the secret in a file of the person's, which it makes the first time.
func ownKey(file string) ([]byte, error) {
	key, err := os.ReadFile(file)
	if err == nil && len(key) == sha256.Size {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) { // another run was quicker, or was killed half-way
		if key, err := os.ReadFile(file); err == nil && len(key) == sha256.Size {
			return key, nil
		}
		return key, os.WriteFile(file, key, 0o600)
	}
	if err != nil {
		return nil, err
	}
	_, err = f.Write(key)
	return key, errors.Join(err, f.Close())
}

// recordCache opens the cache for records; nil, which keeps nothing, where there is none.
func (a *app) recordCache() *cache.Cache {
	if a.cache == "" {
		return nil
	}
	c, err := cache.Sealed(a.cache, a.cacheKey())
	if err != nil {
		return nil // that it can be used was seen
	}
	return c
}
