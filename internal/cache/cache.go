// Package cache keeps files by their digest, and small records by key, in one
// directory that any number of processes may share.
//
// Nothing in it is trusted: a file is checked against its digest each time it is
// read, and a record against a proof where others can write to the directory ([Sealed]).
// Nothing in it is needed: whatever goes wrong costs time, never a result.
// Files appear whole or not at all (written aside, synced, renamed).
package cache

import (
	"crypto/hmac"
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

	"github.com/mabuild/mabuild/internal/verify"
)

// ErrCorrupt is returned by a read that met bytes other than the digest's.
var ErrCorrupt = errors.New("cache entry does not match its digest")

// A Cache is a directory of files and records. A nil Cache is empty and keeps
// nothing. It is safe for concurrent use, also by several processes.
type Cache struct {
	dir         string
	key         []byte // of proofs; nil: what lies in the directory is this user's own word
	processRuns *processRuns
	forever     *flock.Flock // of HoldForever
}

// Open uses dir as a cache and creates it if need be. It proves that dir can be
// written to. What holds something else is no cache: it would be pruned.
func Open(dir string) (*Cache, error) { return Sealed(dir, nil) }

// Sealed is Open for a directory that others can write to, such as one in a checkout. A
// record is believed only if it carries a proof that was made with the same key, which
// the others do not have; a nil key asks for none.
func Sealed(dir string, key []byte) (*Cache, error) {
	if dir == "" {
		return nil, errors.New("cache: no directory is set")
	}
	c := &Cache{dir: dir, key: key, processRuns: processRunsOf(dir)}
	if err := c.own(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
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

// Dir returns the directory for files of another kind that live with the cache,
// creating it.
func (c *Cache) Dir(kind string) (string, error) {
	if c == nil {
		return "", fs.ErrNotExist
	}
	dir := filepath.Join(c.dir, kind)
	return dir, os.MkdirAll(dir, 0o755)
}

// Parts returns what the cache's directory has, by paths without links. It changes with
// each use.
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

// Size returns the size of h's file without reading it, and marks it as used;
// fs.ErrNotExist if there is none.
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

// Get opens h's file and returns it with its size; fs.ErrNotExist if there is
// none. The reader returns [ErrCorrupt] in place of the last bytes, and drops the file,
// when it is not h's.
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
	return &verified{f, r}, size, nil
}

// Bytes returns what h's file holds, at most limit bytes of it; a larger or a
// broken file is fs.ErrNotExist.
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

// Put keeps what r holds as h's file. Bytes that are not h's are refused with
// [ErrCorrupt] and not kept.
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

// Store keeps v as JSON under kind and key.
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

// Load fills v with what was stored under kind and key, and reports whether it
// did. What is broken, or lacks its proof, was not stored.
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

// Proof returns what proves that who has the cache's key said these texts, "" where no
// proof is asked for.
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

// Forget drops what was stored under kind and key.
func (c *Cache) Forget(kind, key string) error {
	if c == nil {
		return nil
	}
	return ignoreMissing(os.Remove(c.record(kind, key)))
}

// record carries its own key, so that one file can never stand for another.
type record struct {
	Kind  string          `json:"kind"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	Proof string          `json:"proof,omitempty"` // of Kind, Key and Value
}

func (c *Cache) record(kind, key string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + key))
	return filepath.Join(c.records(), hex.EncodeToString(sum[:]))
}

// verified checks what is read from a file against the digest it stands for. It
// embeds no file: what can be read past Read would not be checked.
type verified struct {
	file *os.File
	r    *verify.Reader
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	if errors.Is(err, verify.ErrMismatch) {
		_ = os.Remove(v.file.Name()) // the next reader finds nothing rather than this
		err = ErrCorrupt
	}
	return n, err
}

func (v *verified) Close() error { return v.file.Close() }
