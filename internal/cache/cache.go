// Package cache keeps files by digest and small records by key in one directory that
// several processes may share.
//
// The cache does not trust its own content. A file is compared with its digest each time
// it is read. A record is compared with a proof if others can write to the directory
// ([Sealed]). An entry that fails the comparison counts as missing.
//
// No result depends on the cache: a failure costs time only. Callers treat an error of a
// read like a missing entry and may ignore an error of a write.
//
// Files are complete or missing: they are written to a temporary file, synced and
// renamed. The package does not decide when to prune. [Cache.Prune] never removes what a
// run that called [Cache.Hold] has used.
package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/verify"
)

// ErrCorrupt is returned by a read or write of bytes that do not have the digest.
var ErrCorrupt = errors.New("cache entry does not match its digest")

// A Cache is a directory of files and records. A nil Cache is empty and keeps nothing. It
// is safe for concurrent use by goroutines and by processes.
type Cache struct {
	dir         string
	key         []byte       // of proofs; nil: records have no proof
	processRuns *processRuns // shared by all Caches of this process with the same directory
	forever     *flock.Flock // the lock of HoldForever; nil before
}

// Open opens dir as a cache, creates it if it is missing, and checks that it is writable.
// A directory with files that do not belong to a cache is refused with a [*ForeignError]:
// pruning would remove them.
func Open(dir string) (*Cache, error) { return Sealed(dir, nil) }

// Sealed is [Open] for a directory that others can write to, for example in a checkout. A
// record is valid only with a proof (HMAC-SHA-256) that was made with the same key. The
// key must not be stored in the directory. A nil key requires no proof.
func Sealed(dir string, key []byte) (*Cache, error) {
	if dir == "" {
		return nil, errors.New("cache: no directory is set")
	}
	c := &Cache{dir: dir, key: key, processRuns: processRunsOf(dir)}
	if err := c.own(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
	// A part of the cache that is a link would make the cache write and remove files
	// elsewhere, so links are refused before anything is created.
	if err := c.refuseLinks(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
	for _, sub := range []string{c.blobs("sha256"), c.records(), c.temp(), c.runs()} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, fmt.Errorf("cache %s: %w", dir, err)
		}
	}
	probe, err := os.CreateTemp(c.temp(), "probe-*")
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
	return c, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// OwnKey returns the secret for [Sealed] in file, and creates the file with mode 0600 if it is
// missing. Two runs may do so at once: O_EXCL lets one of them create it, and the other
// reads it. A file with the wrong length is left by a run that was killed between create
// and write, and is written again.
func OwnKey(file string) ([]byte, error) {
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

// Dir returns the directory for another kind of entries, for example compiled programs,
// and creates it. Entries in it are held with [Cache.Claim].
func (c *Cache) Dir(kind string) (string, error) {
	if c == nil {
		return "", fs.ErrNotExist
	}
	dir := filepath.Join(c.dir, kind)
	return dir, os.MkdirAll(dir, 0o755)
}

// Parts returns the paths of the tag file and of the cache's directories, absolute and
// without symbolic links, so that a source tree can exclude them: their content changes
// with each use. It returns nil if the cache's directory cannot be resolved.
func (c *Cache) Parts() []string {
	if c == nil {
		return nil
	}
	dir, err := filepath.Abs(c.dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil
	}
	list := []string{filepath.Join(dir, tagName)}
	for _, name := range rooms {
		list = append(list, filepath.Join(dir, name))
	}
	return list
}

func (c *Cache) blobs(algorithm string) string { return filepath.Join(c.dir, "blobs", algorithm) }
func (c *Cache) records() string               { return filepath.Join(c.dir, "records") }
func (c *Cache) temp() string                  { return filepath.Join(c.dir, "tmp") }
func (c *Cache) runs() string                  { return filepath.Join(c.dir, "runs") }
func (c *Cache) path(h v1.Hash) string         { return filepath.Join(c.blobs(h.Algorithm), h.Hex) }

// Size returns the size of the file of digest h without reading it, and marks it as used.
// It returns fs.ErrNotExist if there is none. The size is not checked against the
// content; only [Cache.Get] is.
func (c *Cache) Size(h v1.Hash) (int64, error) {
	if c == nil {
		return 0, fs.ErrNotExist
	}
	info, err := os.Lstat(c.path(h))
	switch {
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, fs.ErrNotExist
	}
	touched(c.path(h))
	return info.Size(), nil
}

// Get opens the file of digest h and returns it with its size, or fs.ErrNotExist. If the
// content does not have the digest, the reader returns [ErrCorrupt] in place of the last
// bytes and removes the file, so that wrong bytes are never complete. The caller closes
// the reader.
func (c *Cache) Get(h v1.Hash) (io.ReadCloser, int64, error) {
	size, err := c.Size(h)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(c.path(h))
	if err != nil {
		return nil, 0, err
	}
	r, err := verify.NewReader(f, h, size)
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return stream.WithClose(stream.MapError(r, func(err error) error {
		if errors.Is(err, verify.ErrMismatch) {
			_ = os.Remove(f.Name()) // the next reader misses and gets the content again
			err = ErrCorrupt
		}
		return err
	}), f.Close), size, nil
}

// Bytes returns the content of the file of digest h. A file larger than limit bytes or
// with another digest is fs.ErrNotExist.
func (c *Cache) Bytes(h v1.Hash, limit int64) ([]byte, error) {
	r, size, err := c.Get(h)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	if size > limit {
		return nil, fs.ErrNotExist
	}
	b, err := io.ReadAll(r)
	if errors.Is(err, ErrCorrupt) {
		return nil, fs.ErrNotExist
	}
	return b, err
}

// Put stores the content of r as the file of digest h. If the content has another digest,
// nothing is stored and the error is [ErrCorrupt].
func (c *Cache) Put(h v1.Hash, r io.Reader) error {
	if c == nil {
		return nil
	}
	f, err := c.Create()
	if err != nil {
		return err
	}
	defer f.Cleanup()
	v, err := verify.NewReader(r, h, -1)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, v); errors.Is(err, verify.ErrMismatch) {
		return ErrCorrupt
	} else if err != nil {
		return err
	}
	return f.Commit(h)
}

// Store stores v as JSON under kind and key, in place of an earlier value. kind separates
// users of the cache; it is not a directory.
func (c *Cache) Store(kind, key string, v any) error {
	if c == nil {
		return nil
	}
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b, err := json.Marshal(record{Kind: kind, Key: key, Value: value, Proof: c.Proof(kind, key, string(value))})
	if err != nil {
		return err
	}
	f, err := c.Create()
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.rename(c.record(kind, key))
}

// Load fills v with the value that was stored under kind and key and reports whether it
// did. A record that is damaged, that was stored under another key or that lacks its
// proof counts as missing. v may be partly filled if Load returns false.
func (c *Cache) Load(kind, key string, v any) bool {
	if c == nil {
		return false
	}
	b, err := os.ReadFile(c.record(kind, key))
	if err != nil {
		return false
	}
	var r record
	if json.Unmarshal(b, &r) != nil || r.Kind != kind || r.Key != key || c.key != nil && !hmac.Equal([]byte(r.Proof), []byte(c.Proof(kind, key, string(r.Value)))) {
		return false
	}
	touched(c.record(kind, key))
	return json.Unmarshal(r.Value, v) == nil
}

// Sealed reports whether records need a proof.
func (c *Cache) Sealed() bool { return c != nil && c.key != nil }

// Proof returns the proof that a holder of the cache's key has written these texts, or ""
// if the cache needs none. Each text is preceded by its length, so that two lists of
// texts with the same concatenation have different proofs.
func (c *Cache) Proof(texts ...string) string {
	if !c.Sealed() {
		return ""
	}
	mac := hmac.New(sha256.New, c.key)
	for _, text := range texts {
		fmt.Fprintf(mac, "%d:%s", len(text), text)
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Forget removes the record of kind and key. A record that does not exist is not an
// error.
func (c *Cache) Forget(kind, key string) error {
	if c == nil {
		return nil
	}
	return ignoreMissing(os.Remove(c.record(kind, key)))
}

// A record is the content of one record file. It repeats its kind and key, which Load
// compares, so that a file that was renamed or copied does not stand for another key.
type record struct {
	Kind  string          `json:"kind"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	Proof string          `json:"proof,omitempty"` // of Kind, Key and Value
}

// record returns the path of a record. The name is a hash, because a key may have
// characters that a file name cannot have.
func (c *Cache) record(kind, key string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + key))
	return filepath.Join(c.records(), hex.EncodeToString(sum[:]))
}
