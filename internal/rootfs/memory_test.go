//go:build !race

// The race detector uses more memory: `make race` runs these tests without it.

package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// Each bound has a LayerError with the digest of the layer that exceeds it, and is checked
// before memory is allocated.
func TestBounds(t *testing.T) {
	half := zipped(t, archive(t, repeated(30_000, 1000, "")...))
	more := zipped(t, archive(t, repeated(45_000, 1000, "more/")...))
	var long []byte
	for i := range 30 {
		long = append(long, archive(t, file(fmt.Sprintf("%d", i)+strings.Repeat("x", 1<<20-1000)))[:1<<20+1024]...)
	}
	for _, c := range []struct {
		name   string
		layers [][]byte // the last layer is refused
		want   error    // nil means any error
		alloc  uint64   // in MiB
	}{
		{"30 names of 1 MiB", [][]byte{zipped(t, long)}, ErrPath, 16},
		{"a link of 1 MiB", [][]byte{zipped(t, archive(t, link("a", strings.Repeat("a/", 500_000))))}, ErrPath, 16},
		{"a path of 4,097 bytes", [][]byte{archive(t, file(strings.Repeat("a", 4097)))}, ErrPath, 1},
		{"names of two layers together", [][]byte{half, more}, ErrBudget, 500},
		{"a window of 512 MiB", [][]byte{window(29)}, zstd.ErrWindowSizeExceeded, 4},
		{"a window of 32 MiB", [][]byte{window(25)}, zstd.ErrWindowSizeExceeded, 4},
		{"a whiteout of the parent", [][]byte{archive(t, file("a/b/.wh..."))}, nil, 1},
		{"not a tar", [][]byte{[]byte(strings.Repeat("no tar ", 512))}, tar.ErrHeader, 1},
		{"cut", [][]byte{archive(t, file("a"))[:500]}, io.ErrUnexpectedEOF, 1},
		{"cut gzip", [][]byte{half[:len(half)/2]}, io.ErrUnexpectedEOF, 150},
		{"a negative size", [][]byte{raw(t, record("size", "-1"), file("a"))}, tar.ErrHeader, 1},
		{"sparse", [][]byte{raw(t, record("GNU.sparse.major", "0")+record("GNU.sparse.minor", "1")+record("GNU.sparse.size", "9223372036854775807")+record("GNU.sparse.numblocks", "1")+record("GNU.sparse.map", "0,0"), file("etc/passwd"))}, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := &Tree{
				Wants: func(name string) bool { return name == "etc/passwd" },
				Content: func(_ string, r io.Reader, _ int64) (any, int64, error) {
					n, err := io.Copy(io.Discard, r)
					return n, 8, err
				},
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var err error
			for i, b := range c.layers {
				l := layer(b)
				digest, _ := l.Digest()
				err = tree.Add(l, nil)
				if last := i == len(c.layers)-1; !last && err != nil {
					t.Fatalf("layer %d: %v", i, err)
				} else if !last {
					continue
				}
				var is *LayerError
				if !errors.As(err, &is) || is.Layer != digest || !strings.Contains(err.Error(), digest.String()) || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%v, want %v of layer %s", err, c.want, digest)
				}
			}
			runtime.ReadMemStats(&after)
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > c.alloc {
				t.Errorf("%d MiB were allocated, want at most %d", mib, c.alloc)
			}
			if tree.used > Budget {
				t.Errorf("%d bytes stay allocated", tree.used)
			}
			t.Logf("%v; %d MiB", err, (after.TotalAlloc-before.TotalAlloc)>>20)
		})
	}
}

// 127 layers share the bounds of one, and the memory of replaced entries is released.
func TestLayersShareOneBudget(t *testing.T) {
	tree := &Tree{}
	same := zipped(t, archive(t, append(repeated(1000, 100, "d/"), link("l", strings.Repeat("x", 4000)))...))
	for range 127 {
		if err := tree.Add(layer(same), nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := int64(1000*(NodeCost+100+12) + 2*NodeCost + 2 + 4000 + 500); tree.used != want {
		t.Errorf("%d bytes are accounted, want %d", tree.used, want)
	}
	var err error
	for i := 0; err == nil && i < 200; i++ {
		err = tree.Add(layer(zipped(t, archive(t, repeated(1500, 1000, fmt.Sprintf("%d/", i))...))), nil)
	}
	if !errors.Is(err, ErrBudget) || tree.layer < 127+30 {
		t.Errorf("%v after %d layers", err, tree.layer)
	}
}

// The heap of a tree that uses the whole budget is not larger than the budget, whatever the
// entries are.
func TestBudgetCoversTheHeap(t *testing.T) {
	for name, next := range map[string]func(i int) Change{
		"short names": func(i int) Change { return Change{Path: fmt.Sprint(i), Kind: tar.TypeReg} },
		"60 bytes":    func(i int) Change { return Change{Path: fmt.Sprintf("usr/%d/%060d", i%100, i), Kind: tar.TypeReg} },
		"17 bytes":    func(i int) Change { return Change{Path: fmt.Sprintf("%017d", i), Kind: tar.TypeReg} },
		"links": func(i int) Change {
			return Change{Path: fmt.Sprint(i), Kind: tar.TypeSymlink, Link: fmt.Sprintf("%017d", i)}
		},
		"long links": func(i int) Change {
			return Change{Path: fmt.Sprint(i), Kind: tar.TypeSymlink, Link: strings.Repeat("x", 4000)}
		},
		"deep paths":   func(i int) Change { return Change{Path: fmt.Sprint(i) + strings.Repeat("/a", 2000), Kind: tar.TypeReg} },
		"with content": func(i int) Change { return Change{Path: fmt.Sprint(i), Kind: tar.TypeReg, Content: "", Cost: 0} },
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			tree, i := &Tree{}, 0
			err := tree.Replay(v1.Hash{}, func() (Change, error) { i++; return next(i), nil })
			if !errors.Is(err, ErrBudget) {
				t.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			kept := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			t.Logf("%d changes: %d MiB", i, kept>>20)
			if kept > Budget {
				t.Errorf("%d bytes of heap, want at most %d", kept, Budget)
			}
			if name == "60 bytes" && i < 300_000 {
				t.Errorf("%d files fit, want 300,000", i)
			}
			runtime.KeepAlive(tree)
		})
	}
}
