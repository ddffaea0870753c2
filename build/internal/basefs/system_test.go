package basefs

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// Suits compares what a program requires with what the base image has. The error contains
// want; "" means no error.
func TestSuits(t *testing.T) {
	file := func(glibc string) rootfs.Change { return rootfs.Change{Kind: tar.TypeReg, Content: glibc} }
	link := func(to string) rootfs.Change { return rootfs.Change{Kind: tar.TypeSymlink, Link: to} }
	type tree map[string]rootfs.Change
	debian := tree{
		"lib": link("usr/lib"), "lib64": link("usr/lib64"), "usr/lib64/ld-linux-x86-64.so.2": link("/lib/x86_64-linux-gnu/ld-2.31.so"),
		"usr/lib/x86_64-linux-gnu/ld-2.31.so": file(""), "usr/lib/x86_64-linux-gnu/libc.so.6": link("libc-2.31.so"),
		"usr/lib/x86_64-linux-gnu/libc-2.31.so": file("2.30"), "opt/old/libc.so.6": file("2.4"),
	}
	alpine := tree{"lib/ld-musl-x86_64.so.1": file(""), "lib/libc.musl-x86_64.so.1": link("ld-musl-x86_64.so.1")}
	glibc, musl := "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"
	for _, c := range []struct {
		name  string
		base  tree
		files []layerfile.Entry
		wants elf.Linkage
		want  string
	}{
		{"glibc on Debian", debian, nil, elf.Linkage{Interpreter: glibc, Libraries: []string{"libc.so.6"}, Glibc: "2.30"}, ""},
		{"glibc too new", debian, nil, elf.Linkage{Interpreter: glibc, Libraries: []string{"libc.so.6"}, Glibc: "2.34"}, "requires GLIBC_2.34, but the base image has GLIBC_2.30"},
		{"2.4 is before 2.30", debian, nil, elf.Linkage{Interpreter: glibc, Glibc: "2.4"}, ""},
		{"a library", debian, nil, elf.Linkage{Interpreter: glibc, Libraries: []string{"libz.so.1"}}, "requires the library libz.so.1"},
		{"a library among files", debian, []layerfile.Entry{{Name: "srv/libz.so.1"}}, elf.Linkage{Interpreter: glibc, Libraries: []string{"libz.so.1"}}, ""},
		{"musl on Alpine", alpine, nil, elf.Linkage{Interpreter: musl, Libraries: []string{"libc.musl-x86_64.so.1"}}, ""},
		{"musl as zig calls it", alpine, nil, elf.Linkage{Interpreter: musl, Libraries: []string{"libc.so"}}, ""},
		{"glibc on Alpine", alpine, nil, elf.Linkage{Interpreter: glibc}, "loader " + glibc + " (glibc), but the base image has /lib/ld-musl-x86_64.so.1"},
		{"musl on Debian", debian, nil, elf.Linkage{Interpreter: musl}, "loader " + musl + " (musl), but the base image has /usr/lib64/ld-linux-x86-64.so.2"},
		{"an empty base", tree{}, nil, elf.Linkage{Interpreter: glibc}, "no loader"},
		{"the loader among files", tree{}, []layerfile.Entry{{Name: "lib/ld-musl-x86_64.so.1"}}, elf.Linkage{Interpreter: musl}, ""},
		{"a loop of links", tree{"lib": link("lib")}, nil, elf.Linkage{Interpreter: musl}, "too many links"},
	} {
		err := System{Tree: replay(t, c.base), Files: c.files}.Suits("base", c.wants)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// replay returns the tree of one layer.
func replay(t *testing.T, changes map[string]rootfs.Change) *rootfs.Tree {
	t.Helper()
	tree, names := &rootfs.Tree{}, slices.Sorted(maps.Keys(changes))
	if err := tree.Replay(v1.Hash{}, func() (rootfs.Change, error) {
		if len(names) == 0 {
			return rootfs.Change{}, io.EOF
		}
		c := changes[names[0]]
		c.Path, names = names[0], names[1:]
		return c, nil
	}); err != nil {
		t.Fatal(err)
	}
	return tree
}

// An error that lists files of a base image is short, however many the base has.
func TestErrorsOfHostileBasesAreShort(t *testing.T) {
	changes := map[string]rootfs.Change{}
	for i := range 100_000 {
		changes[fmt.Sprintf("lib/%06d/ld-linux-x.so.2", i)] = rootfs.Change{Kind: tar.TypeReg}
	}
	err := System{Tree: replay(t, changes)}.Suits("base", elf.Linkage{Interpreter: "/lib/ld-musl-x86_64.so.1"})
	if err == nil || len(err.Error()) > 1000 || !strings.Contains(err.Error(), "/lib/000000/ld-linux-x.so.2") || !strings.Contains(err.Error(), "and 99995 more") {
		t.Errorf("%.2000v", err)
	}
}
