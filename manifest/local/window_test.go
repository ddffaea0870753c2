package local

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// The window for decompressing a layer is bounded.
func TestUncompressedBoundsTheWindow(t *testing.T) {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 19 << 3, 1, 0, 0} // a window of 512 MiB
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(frame, types.OCILayerZStd))
	if err != nil {
		t.Fatal(err)
	}
	l := &ociLayout{Dir: t.TempDir()}
	put(t, l, "v1", img)
	c, err := l.Get(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := c.(v1.Image).Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Uncompressed()
	if err == nil {
		_, err = r.Read(make([]byte, 1))
	}
	if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("%v", err)
	}
}

// Names in an archive that cannot be those of blobs use no memory.
func TestLongNamesInAnArchiveAreNotKept(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 40 {
		if err := w.WriteHeader(&tar.Header{Name: strconv.Itoa(i) + strings.Repeat("x", 500_000), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := &tarFile{file: file, content: f, size: int64(b.Len()), at: map[string]extent{}}
	var before, after runtime.MemStats
	b = bytes.Buffer{}
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := names.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); len(names.at) > 0 || kept > 4<<20 {
		t.Errorf("%d names and %d bytes stay in memory", len(names.at), kept)
	}
}
