package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mabuild/mabuild/manifest"
)

// compressions are the supported compressions, by usual names of such archives.
var compressions = map[string]func(testing.TB, io.Reader) []byte{
	"a.tar.gz": func(t testing.TB, r io.Reader) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := io.Copy(w, r)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	},
	"a.tar.zst": func(t testing.TB, r io.Reader) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(w, r)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	},
}

// An archive compressed with gzip or zstd, whatever its name is, has the same content as
// without compression, and is decompressed once.
func TestCompressedArchives(t *testing.T) {
	img := makeImage(t, "linux/amd64", 100_000)
	for _, form := range []string{FormArchive, FormDockerArchive} {
		plain := Place{Form: form, Path: filepath.Join(t.TempDir(), "plain.tar")}
		sink, err := plain.Sink()
		if err != nil {
			t.Fatal(err)
		}
		put(t, sink, "app:v1", img)
		raw, err := os.ReadFile(plain.Path)
		if err != nil {
			t.Fatal(err)
		}
		source, err := plain.Source()
		if err != nil {
			t.Fatal(err)
		}
		want, err := source.Resolve(t.Context(), "app:v1")
		if err != nil {
			t.Fatal(err)
		}
		for name, compress := range compressions {
			for _, name := range []string{name, "a.tar", "a.tgz"} {
				scratch, dirs := t.TempDir(), 0
				place := Place{Form: form, Path: filepath.Join(t.TempDir(), name), Scratch: func(context.Context) (string, error) {
					dirs++
					return scratch, nil
				}}
				if err := os.WriteFile(place.Path, compress(t, bytes.NewReader(raw)), 0o600); err != nil {
					t.Fatal(err)
				}
				source, err := place.Source()
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					c, err := source.Get(t.Context(), "v1")
					if err != nil || digestOf(t, c) != want.Digest {
						t.Fatalf("%s: %v, %v", place, c, err)
					}
					if err := validate.Image(c.(v1.Image)); err != nil {
						t.Errorf("%s: %v", place, err)
					}
				}
				if err := source.(io.Closer).Close(); err != nil || dirs != 1 {
					t.Errorf("%s: decompressed %d times, %v", place, dirs, err)
				}
				if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
					t.Errorf("%s: leftover files %v, %v", place, left, err)
				}
				// A changed file is decompressed again.
				if err := os.WriteFile(place.Path, raw, 0o600); err != nil {
					t.Fatal(err)
				}
				if d, err := source.Resolve(t.Context(), ""); err != nil || d.Digest != want.Digest {
					t.Errorf("%s: %v, %v", place, d, err)
				}
			}
		}
	}
	compressed := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(compressed, compressions["a.tar.gz"](t, bytes.NewReader(nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&ociArchive{File: compressed}).Put(t.Context(), "app:v1", img); hintOf(err) == "" {
		t.Errorf("the file was overwritten: %v", err)
	}
}

// zeros is a reader of n zero bytes.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	z.n -= n
	return int(n), nil
}

// The size of a decompressed archive, and the memory for it, are bounded.
func TestCompressedBombs(t *testing.T) {
	defer func(n int64) { maxUnpacked = n }(maxUnpacked)
	maxUnpacked = 64 << 20
	for name, compress := range compressions {
		for size, want := range map[int64]string{maxUnpacked - 10: "not a tar file", maxUnpacked + 1: "has more than"} {
			scratch := t.TempDir()
			a := &ociArchive{File: filepath.Join(t.TempDir(), name), Scratch: func(context.Context) (string, error) { return scratch, nil }}
			if err := os.WriteFile(a.File, compress(t, &zeros{size}), 0o600); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := a.Get(t.Context(), "")
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), want) || hintOf(err) == "" {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
			if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 32<<20 {
				t.Errorf("%s of %d bytes takes %d bytes", name, size, bytes)
			}
			_ = a.Close()
			if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
				t.Errorf("leftover files %v, %v", left, err)
			}
		}
	}
	// A window larger than rootfs.MaxWindow is refused.
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, &zeros{65 << 20})
	file := filepath.Join(t.TempDir(), "window.tar")
	if err := errors.Join(err, w.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := (&ociArchive{File: file}).Get(t.Context(), ""); !errors.Is(err, zstd.ErrWindowSizeExceeded) || !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("a large window: %v", err)
	}
	// A missing directory for decompressed archives is an error.
	gz := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(gz, compressions["a.tar.gz"](t, &zeros{10}), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := &ociArchive{File: gz, Scratch: func(context.Context) (string, error) { return filepath.Join(t.TempDir(), "none"), nil }}
	if _, err := nowhere.Get(t.Context(), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
