package build

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// An error that lists files or accounts of a base image is short, however many the base
// has.
func TestErrorsOfHostileBasesAreShort(t *testing.T) {
	changes := map[string]rootfs.Change{}
	for i := range 100_000 {
		changes[fmt.Sprintf("lib/%06d/ld-linux-x.so.2", i)] = rootfs.Change{Kind: tar.TypeReg}
	}
	err := system{tree: replay(t, changes)}.suits("base", crosscompile.Linkage{Interpreter: "/lib/ld-musl-x86_64.so.1"})
	if err == nil || len(err.Error()) > 1000 || !strings.Contains(err.Error(), "/lib/000000/ld-linux-x.so.2") || !strings.Contains(err.Error(), "and 99995 more") {
		t.Errorf("%.2000v", err)
	}
	e := noAccount(PlannedBase{Ref: "base"}, "user", "bob", []string{strings.Repeat("x", 500_000), "root"})
	if e.Way != "the base image has root; a number needs no entry" {
		t.Errorf("%.200s", e.Way)
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
	l, err := newLayers(t, nil).Layer([]layerfile.Entry{
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
	var kept layerRecord
	d, _ := l.Digest()
	if !c.Load(treeRecord, d.String(), &kept) {
		t.Fatal("the cache has no record")
	}
	file := filepath.Join(dir, "blobs", kept.Changes.Algorithm, kept.Changes.Hex)
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
