package cache_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/cache"
)

func open(t *testing.T, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hash(t *testing.T, text string) v1.Hash {
	t.Helper()
	h, _, err := v1.SHA256(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A blob that was put can be read, up to a limit.
func TestPutAndGet(t *testing.T) {
	c := open(t, t.TempDir())
	h := hash(t, "content")
	if _, _, err := c.Get(h); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty cache gives %v", err)
	}
	if err := c.Put(h, strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Bytes(h, 100); err != nil || string(b) != "content" {
		t.Errorf("Bytes = %q, %v", b, err)
	}
	if _, err := c.Bytes(h, 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file over the limit gives %v", err)
	}
}

// Put refuses content that does not have the digest, and leaves no file.
func TestPutRefusesOtherBytes(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	h := hash(t, "content")
	if err := c.Put(h, strings.NewReader("contend")); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Size(h); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the wrong content is stored: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("leftover files: %v, %v", left, err)
	}
}

// A broken file in the cache is never returned as valid content, by any way of reading. The
// next Put repairs it.
func TestBrokenFilesAreNeverBelieved(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"truncated":                func(p string) error { return os.Truncate(p, 3) },
		"one bit":                  func(p string) error { return os.WriteFile(p, []byte("content."[:7-1]+"T"), 0o600) },
		"longer":                   func(p string) error { return os.WriteFile(p, []byte("content and more"), 0o600) },
		"empty":                    func(p string) error { return os.Truncate(p, 0) },
		"a directory":              func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) },
		"a link":                   func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
		"a dead link":              func(p string) error { return errors.Join(os.Remove(p), os.Symlink("nowhere", p)) },
		"a directory with content": func(p string) error { return errors.Join(os.Remove(p), os.MkdirAll(filepath.Join(p, "x"), 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, h := open(t, dir), hash(t, "content")
			path := filepath.Join(dir, "blobs", "sha256", h.Hex)
			for range 2 {
				if err := c.Put(h, strings.NewReader("content")); err != nil {
					t.Fatal(err)
				}
				if err := spoil(path); err != nil {
					t.Fatal(err)
				}
				if r, _, err := c.Get(h); err == nil {
					if _, err := io.Copy(io.Discard, r); !errors.Is(err, cache.ErrCorrupt) {
						t.Errorf("io.Copy gives %v", err)
					}
					r.Close()
				} else if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Get gives %v", err)
				}
				if b, err := c.Bytes(h, 100); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Bytes gives %q, %v", b, err)
				}
			}
			if err := c.Put(h, strings.NewReader("content")); err != nil {
				t.Fatal(err)
			}
			if b, err := c.Bytes(h, 100); err != nil || string(b) != "content" {
				t.Errorf("Put does not repair it: %q, %v", b, err)
			}
		})
	}
}

// A record is found by its kind and key, and a broken one is not found.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	var got []string
	if c.Load("kind", "key", &got) {
		t.Error("an empty cache has a record")
	}
	if err := c.Store("kind", "key", []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if !c.Load("kind", "key", &got) || len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if c.Load("other", "key", &got) {
		t.Error("a record of another kind was found")
	}
	files, err := filepath.Glob(filepath.Join(dir, "records", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, spoilt := range [][]byte{b[:len(b)/2], bytes.Replace(b, []byte("key"), []byte("yek"), 1), nil} {
		if err := os.WriteFile(files[0], spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.Load("kind", "key", &got) {
			t.Errorf("Load accepts %q", spoilt)
		}
	}
}

// Without a directory, a cache is empty and stores nothing.
func TestNoCacheIsAnEmptyOne(t *testing.T) {
	var c *cache.Cache
	h := hash(t, "content")
	if err := c.Put(h, strings.NewReader("content")); err != nil {
		t.Error(err)
	}
	if err := c.Store("kind", "key", 1); err != nil {
		t.Error(err)
	}
	var n int
	if c.Load("kind", "key", &n) {
		t.Error("a record was found")
	}
	if _, _, err := c.Get(h); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := c.Create(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Concurrent writers and readers of one blob all get its content.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	h := hash(t, strings.Repeat("content", 10_000))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := cache.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Put(h, strings.NewReader(strings.Repeat("content", 10_000))); err != nil {
				t.Error(err)
			}
			if b, err := c.Bytes(h, 1<<20); err != nil || len(b) != 70_000 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
}

// Open fails if it cannot write to the directory.
func TestOpenSaysWhenItCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(file); err == nil {
		t.Error("Open accepts a file")
	}
}
