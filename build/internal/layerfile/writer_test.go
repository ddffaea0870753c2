package layerfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/internal/cache"
)

// newWriter returns a Writer with the default compression.
func newWriter(t testing.TB, c *cache.Cache) *Writer {
	return &Writer{Work: t.TempDir(), Cache: c, Time: time.Unix(0, 0).UTC(), Format: "gzip", Level: 1, Alive: func() error { return nil }}
}

// A layer is read from the cache. If the cached blob is broken, the layer is made again.
func TestLayersComeOutOfTheCacheUntilItBreaks(t *testing.T) {
	dir := t.TempDir()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries := []Entry{Inline("mabuild/x", 0o755, []byte(strings.Repeat("program ", 1000)))}
	first, err := newWriter(t, c).Layer(entries)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	entries[0].Open = func(open func() (io.ReadCloser, error)) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { opened++; return open() }
	}(entries[0].Open)
	again, err := newWriter(t, c).Layer(entries)
	if err != nil || opened != 0 {
		t.Fatalf("%v; %d files were read for a cached layer", err, opened)
	}
	// A blob with the right size and wrong bytes is made again.
	file := filepath.Join(dir, "blobs", "sha256", digest.Hex)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := validate.Layer(again); err != nil || opened == 0 {
		t.Errorf("%v; %d files were read to make the layer again", err, opened)
	}
}

// A layer that this run wrote is checked against its digest while it is sent, so it is read
// once. A layer found in the cache is checked before that. A broken one of either kind is
// made again.
func TestLayerOfThisRunIsReadOnce(t *testing.T) {
	for _, own := range []bool{true, false} {
		dir := t.TempDir()
		c, err := cache.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		entries := []Entry{Inline("mabuild/x", 0o755, []byte(strings.Repeat("program ", 1000)))}
		w := newWriter(t, c)
		w.Written = &sync.Map{}
		l, err := w.Layer(entries)
		if err != nil {
			t.Fatal(err)
		}
		if !own {
			if l, err = newWriter(t, c).Layer(entries); err != nil {
				t.Fatal(err)
			}
		}
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "blobs", "sha256", digest.Hex)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r)
		if corrupt := errors.Is(err, cache.ErrCorrupt); corrupt != own || !own && err != nil {
			t.Errorf("of this run %t: the first reader gets %v", own, err)
		}
		if err := errors.Join(r.Close(), validate.Layer(l)); err != nil {
			t.Errorf("of this run %t: the next reader gets %v", own, err)
		}
	}
}

// A file that changes between being hashed and being packed is not stored in the cache
// under its former hash.
func TestFileChangedWhilePackedIsNotCached(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := Inline("srv/x", 0o644, []byte("AAAA"))
	changed := e
	changed.Open = Inline("srv/x", 0o644, []byte("BBBB")).Open
	if _, err := newWriter(t, c).Layer([]Entry{changed}); !errors.Is(err, errChanged) {
		t.Fatalf("got %v", err)
	}
	l, err := newWriter(t, c).Layer([]Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	want, err := newWriter(t, nil).Layer([]Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := l.Digest()
	if d, _ := want.Digest(); got != d {
		t.Errorf("%s, want %s", got, d)
	}
}

// A layer that is being sent does not change while another build of the same Builder,
// without a cache, makes the same layer in the same work directory.
func TestTwoBuildsMakeTheSameLayer(t *testing.T) {
	work := t.TempDir()
	maker := func() *Writer {
		return &Writer{Work: work, Time: time.Unix(0, 0).UTC(), Format: "gzip", Level: 1, Alive: func() error { return nil }}
	}
	content := likeProgram(1 << 20)
	first, err := maker().Layer([]Entry{Inline("a", 0o644, content)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	whole := func(l v1.Layer) {
		t.Helper()
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if is, _, err := v1.SHA256(r); err != nil || is != want {
			t.Errorf("%s, %v; want %s", is, err, want)
		}
	}
	again := Inline("a", 0o644, content)
	open := again.Open
	again.Open = func() (io.ReadCloser, error) {
		whole(first) // while the second is being made
		return open()
	}
	second, err := maker().Layer([]Entry{again})
	if err != nil {
		t.Fatal(err)
	}
	whole(first)
	whole(second)
}

// A layer that cannot be made leaves no file.
func TestALayerThatFailsLeavesNoFile(t *testing.T) {
	w := newWriter(t, nil)
	broken := Inline("a", 0o644, []byte("text"))
	broken.Content = "other"
	if _, err := w.Layer([]Entry{broken}); !errors.Is(err, errChanged) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(w.Work); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// A layer that several programs share is made once, even if each program has its own layer
// writer.
func TestSharedLayerIsMadeOnce(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	turns := make(chan struct{}, 1)
	var opened atomic.Int32
	shared := Inline("f", 0o644, []byte("content"))
	open := shared.Open
	shared.Open = func() (io.ReadCloser, error) {
		opened.Add(1)
		return open()
	}
	var wg sync.WaitGroup
	for range 20 {
		w := newWriter(t, c)
		w.Permits = turns
		wg.Go(func() {
			if _, err := w.Layer([]Entry{shared}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("the layer was made %d times", n)
	}
}

// The memory that writing a layer allocates does not grow with the size of the layer.
func TestLayersAllocateTheSameWhateverTheirSize(t *testing.T) {
	w := newWriter(t, nil)
	for _, size := range []int{1 << 20, 16 << 20} {
		entries := []Entry{Inline("mabuild/program", 0o755, likeProgram(size))}
		write := func() {
			if _, err := w.write(io.Discard, entries); err != nil {
				t.Fatal(err)
			}
		}
		write()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		write()
		runtime.ReadMemStats(&after)
		if n, bytes := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc; n > 100 || bytes > 3<<19 {
			t.Errorf("a layer of %d MiB allocates %d times, %d bytes", size>>20, n, bytes)
		}
	}
}
