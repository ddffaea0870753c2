package layerfile

import (
	"bytes"
	stdgzip "compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest"
)

// likeProgram returns content about as compressible as a Go program: random bytes and
// repetitions of them.
func likeProgram(size int) []byte {
	rnd := rand.New(rand.NewSource(1))
	content := make([]byte, size)
	for i := 0; i < len(content); {
		chunk := content[i:min(i+rnd.Intn(64)+4, len(content))]
		if i > 4096 && rnd.Intn(5) < 3 {
			copy(chunk, content[i-4096+rnd.Intn(1024):])
		} else {
			rnd.Read(chunk)
		}
		i += len(chunk)
	}
	return content
}

// A compression is a format and a level.
type compression struct {
	Format string
	Level  int
}

// compressed returns content through c as a layer of that size.
func compressed(t *testing.T, c compression, content []byte, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := (&Writer{Format: c.Format, Level: c.Level}).compressor(&b, size)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, io.MultiReader(strings.NewReader(string(content[:len(content)/3])), bytes.NewReader(content[len(content)/3:])))
	if err := errors.Join(err, w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Compressed layers decompress to the same bytes, with the standard library too, for every
// size of layer and every split into blocks.
func TestCompressionRoundTrip(t *testing.T) {
	content := likeProgram(2*splitBlock + 1)
	for _, c := range []compression{{"gzip", 1}, {"gzip", 9}, {"zstd", 1}, {"zstd", 22}} {
		for _, size := range []int64{0, splitFrom - 1, splitFrom} {
			if c.Format == zstdFormat && size > 0 {
				continue // the concurrency makes no difference there
			}
			for _, n := range []int{0, 1, splitReach, splitBlock, len(content)} {
				b := compressed(t, c, content[:n], size)
				var r io.Reader
				var err error
				r, err = rootfs.Uncompress(io.NopCloser(bytes.NewReader(b)))
				if c.Format != zstdFormat && err == nil {
					r, err = stdgzip.NewReader(bytes.NewReader(b))
				}
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, content[:n]) {
					t.Errorf("%v of %d bytes in a layer of %d: %d bytes, %v", c, n, size, len(got), err)
				}
			}
		}
	}
}

// The bytes of a layer do not depend on the number of cores or on other layers that are
// compressed at the same time.
func TestCompressionIsDeterministic(t *testing.T) {
	content := likeProgram(3*splitBlock + 12345)
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for c, want := range map[compression]string{
		{"gzip", 1}: "9c85aef4961d4cf6751fe7cf0e3aec76a2bef255608098604c17314dbd04754a",
		{"gzip", 6}: "e6f0927791e5d3fb048ba01a01d3f35a24732ddc03f14fea1ca66a1d6a0ed139",
		{"zstd", 3}: "044304298ff530ca1221a074304e41bb98a5713ef3f5f02c7fb73c08facbdf09",
	} {
		for _, cores := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(cores)
			var wg sync.WaitGroup
			digests := make([]string, 2)
			for i := range digests {
				wg.Go(func() {
					sum := sha256.Sum256(compressed(t, c, content, splitFrom))
					digests[i] = hex.EncodeToString(sum[:])
				})
			}
			wg.Wait()
			for _, digest := range digests {
				if digest != want {
					t.Errorf("%v on %d cores: %s, want %s", c, cores, digest, want)
				}
			}
		}
	}
}

// failing is a writer that takes some bytes and then fails.
type failing struct{ left int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// An error of the destination is returned, and no goroutine keeps waiting.
func TestSplitFails(t *testing.T) {
	content := likeProgram(10 * splitBlock)
	for _, room := range []int{0, 10, splitBlock} {
		w, err := (&Writer{Format: "gzip", Level: 1}).compressor(&failing{room}, splitFrom)
		if err == nil {
			_, err = w.Write(content)
			err = errors.Join(err, w.Close())
		}
		if !errors.Is(err, errFull) {
			t.Errorf("destination of %d bytes: %v", room, err)
		}
	}
	if len(splitters) != 0 {
		t.Errorf("%d blocks are still compressed", len(splitters))
	}
}

// The media type and the cache key of a layer depend on its compression.
func TestLayersByCompression(t *testing.T) {
	w := newWriter(t, nil)
	keys := map[string]bool{}
	for c, want := range map[compression]types.MediaType{{"gzip", 1}: types.OCILayer, {"gzip", 2}: types.OCILayer, {"zstd", 3}: types.OCILayerZStd} {
		w.Format, w.Level = c.Format, c.Level
		entries := []Entry{Inline("f", 0o644, []byte("content"))}
		l, err := w.Layer(entries)
		if err != nil {
			t.Fatal(err)
		}
		d, err := manifest.Describe(l)
		if err != nil || d.MediaType != want {
			t.Errorf("%v: %s, %v", c, d.MediaType, err)
		}
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Contains(b, []byte("content")) {
			t.Errorf("%v: %d bytes, %v", c, len(b), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		keys[w.key(entries)] = true
	}
	if len(keys) != 3 {
		t.Errorf("%d cache keys for three compressions", len(keys))
	}
}

// The version of the compressor that keys of layers have is that of go.mod.
func TestCompressorIsThatOfGoMod(t *testing.T) {
	content, err := os.ReadFile("../../../go.mod")
	if err != nil || !strings.Contains(string(content), compressor+" "+compressorVersion+"\n") {
		t.Errorf("go.mod does not have %s %s: %v", compressor, compressorVersion, err)
	}
}
