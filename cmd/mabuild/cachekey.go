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

// cacheKeyEnv is the variable with the secret that authenticates records of the cache.
const cacheKeyEnv = "MABUILD_CACHE_KEY"

// cacheKey returns the secret that authenticates records of the cache. It is nil if the
// cache is outside the source tree: then only the user can write to it, and records need
// no proof.
//
// A cache inside the tree may come with the checkout, and a forged record could make
// mabuild publish a foreign program. So its records carry a MAC. The secret comes from
// the environment or from a file beside the user's own configuration. Without either, a
// random secret makes only the records of this run valid.
func (a *app) cacheKey() []byte {
	a.keyed.Do(func() { a.key = a.findKey() })
	return a.key
}

// findKey finds the secret; see cacheKey.
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

// below reports whether a path is inside a directory, either as it is written or after
// links are followed. Both must be outside for it to be false, since the tree may contain
// a link on the way. Any doubt, such as an error, counts as inside. The path need not
// exist: its longest existing part decides.
func below(dir, path string) bool {
	tree, err := intree.New(dir)
	if err != nil {
		return false
	}
	defer tree.Close() //nolint:errcheck // was opened to read
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
	for at := abs; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return within(abs) || within(real)
		}
		if at == filepath.Dir(at) {
			return within(abs)
		}
	}
}

// ownKey returns the secret in file, and creates the file with mode 0600 if it is
// missing. Two runs may do so at once: O_EXCL lets one of them create it, and the other
// reads it. A file with the wrong length is left by a run that was killed between create
// and write, and is written again.
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
	if errors.Is(err, fs.ErrExist) { // created meanwhile, or incomplete
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

// recordCache returns the cache for records, authenticated with cacheKey. It is nil if there is
// no cache; a nil cache stores and finds nothing.
func (a *app) recordCache() *cache.Cache {
	if a.cache == "" {
		return nil
	}
	c, err := cache.Sealed(a.cache, a.cacheKey())
	if err != nil {
		return nil // usableCache has warned
	}
	return c
}
