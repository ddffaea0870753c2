package basefs

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/cache"
)

func newLayers(t *testing.T) *layerfile.Writer {
	return &layerfile.Writer{Work: t.TempDir(), Format: "gzip", Level: 1, Alive: func() error { return nil }}
}

// The tree of a base image applies whiteouts and opaque directories, and ends at loops of
// links.
func TestTreeAppliesWhiteoutsAndEndsAtLoops(t *testing.T) {
	w := newLayers(t)
	l1, err := w.Layer([]layerfile.Entry{
		{Name: "bin", Kind: tar.TypeSymlink, Link: "usr/bin"},
		{Name: "a", Kind: tar.TypeSymlink, Link: "b"},
		{Name: "b", Kind: tar.TypeSymlink, Link: "a"},
		layerfile.Directory("data", 0o700), layerfile.Inline("data/old", 0o644, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	l2, err := w.Layer([]layerfile.Entry{layerfile.Inline(".wh.bin", 0o644, nil), layerfile.Inline("data/.wh..wh..opq", 0o644, nil), layerfile.Inline("data/new", 0o644, nil)})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := readTree([]v1.Layer{l1, l2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := tr.Resolve("/bin/app"); err != nil || at != "bin/app" {
		t.Errorf("a removed link is followed: %s, %v", at, err)
	}
	if _, ok := tr.Lookup("data/old"); ok {
		t.Error("an opaque directory shows entries of lower layers")
	}
	if n, ok := tr.Lookup("data"); !ok || n.Mode != 0o700 {
		t.Errorf("data is %+v", n)
	}
	if _, ok := tr.Lookup("data/new"); !ok {
		t.Error("data/new is missing")
	}
	if _, err := tr.Resolve("/a/app"); err == nil {
		t.Error("a loop of links was resolved")
	}
}

// The record of a layer in the cache gives the same tree as the layer. If the record is
// broken, the layer is read again.
func TestTreeFromTheCache(t *testing.T) {
	dir := t.TempDir()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLayers(t).Layer([]layerfile.Entry{
		layerfile.Directory("etc", 0o750), layerfile.Inline(passwdFile, 0o644, []byte("bob:x:1:1")), {Name: "\xff", Kind: tar.TypeSymlink, Link: "\xfe"},
	})
	if err != nil {
		t.Fatal(err)
	}
	look := func(l v1.Layer) string {
		t.Helper()
		tree, err := readTree([]v1.Layer{l}, c)
		if err != nil {
			t.Fatal(err)
		}
		dir, _ := tree.Lookup("etc")
		file, _ := tree.Lookup(passwdFile)
		link, _ := tree.Lookup("\xff")
		return fmt.Sprintf("%o %s %q", dir.Mode, textOf(file), link.Link)
	}
	want := look(l)
	if want != "750 bob:x:1:1 \"\\xfe\"" {
		t.Errorf("tree of the layer: %s", want)
	}
	if got := look(unread{l}); got != want {
		t.Errorf("tree from the cache: %s", got)
	}
	var kept map[string]v1.Hash
	d, _ := l.Digest()
	if !c.Load(treeRecord, d.String(), &kept) {
		t.Fatal("the cache has no record")
	}
	file := filepath.Join(dir, "blobs", kept["changes"].Algorithm, kept["changes"].Hex)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		broken := append([]byte(nil), b...)
		broken[i] ^= 0x10
		if err := os.WriteFile(file, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := look(l); got != want {
			t.Fatalf("byte %d broken: %s", i, got)
		}
	}
}

// unread is a layer that cannot be read.
type unread struct{ v1.Layer }

func (unread) Compressed() (io.ReadCloser, error)   { return nil, os.ErrPermission }
func (unread) Uncompressed() (io.ReadCloser, error) { return nil, os.ErrPermission }
