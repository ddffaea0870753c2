package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archive returns a tar file of these headers, unchanged and without content.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layer(b []byte) v1.Layer { return static.NewLayer(b, types.OCILayer) }

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func file(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }

func link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}

func dir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }

// repeated returns n files below a directory, with names of this length.
func repeated(n, length int, below string) []tar.Header {
	list := make([]tar.Header, n)
	for i := range list {
		list[i] = file(fmt.Sprintf("%s%0*d", below, length, i))
	}
	return list
}

// raw returns one header with extended records that the tar writer would refuse.
func raw(t testing.TB, records string, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "PaxHeaders.0/x", Typeflag: tar.TypeReg, Size: int64(len(records))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, records); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all := b.Bytes()
	sum := 0
	for _, c := range all[148:156] { // the checksum counts its field as spaces
		sum -= int(c)
	}
	all[156] = tar.TypeXHeader
	sum = 8 * ' '
	for i, c := range all[:512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(all[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return all
}

// record returns a PAX record.
func record(key, value string) string {
	size := len(key) + len(value) + 3
	for n := size; ; n++ {
		if s := fmt.Sprintf("%d %s=%s\n", n, key, value); len(s) == n {
			return s
		}
	}
}

// window returns a zstd frame that declares a window of 1<<log bytes.
func window(log int) []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(log-10) << 3, 1, 0, 0}
}

// The number of bytes that a base image may make us read is bounded over all layers,
// compressed and uncompressed.
func TestReadIsBounded(t *testing.T) {
	small := zipped(t, archive(t, file("a"), file("b")))
	for _, tree := range []*Tree{{read: MaxRead - 1500}, {fetched: MaxRead - 10}} {
		var is *LayerError
		if err := tree.Add(layer(small), nil); !errors.Is(err, ErrRead) || !errors.As(err, &is) {
			t.Errorf("%v", err)
		}
	}
}

// A name that occurs many times uses as much memory as one that occurs once.
func TestRepeatedNamesCostNothing(t *testing.T) {
	tree := &Tree{}
	list := make([]tar.Header, 100_000)
	for i := range list {
		list[i] = link("a/b", "c")
	}
	if err := tree.Add(layer(zipped(t, archive(t, list...))), nil); err != nil {
		t.Fatal(err)
	}
	if want := int64(2*(NodeCost+1) + 1); tree.used != want || tree.count != 3 {
		t.Errorf("%d bytes and %d nodes are accounted, want %d and 3", tree.used, tree.count, want)
	}
}

// Resolve follows links, parent directories and whiteouts as a kernel does.
func TestResolve(t *testing.T) {
	tree := &Tree{}
	for _, headers := range [][]tar.Header{
		{link("bin", "usr/bin"), dir("usr/bin"), link("a", "b"), link("b", "a"), link("up", "../../etc"), link("usr/abs", "/srv/x/"), dir("gone/x"), link("gone/l", "/etc")},
		{file(".wh.gone"), file("/usr/../abs"), dir("./")},
	} {
		if err := tree.Add(layer(archive(t, headers...)), nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"/bin/sh": "usr/bin/sh", "bin/../x": "usr/x", "up/passwd": "etc/passwd", "usr/abs/y": "srv/x/y", "gone/l/x": "gone/l/x", "": "", "/": "", "none/../x//y/": "x/y",
	} {
		if at, err := tree.Resolve(name); at != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", name, at, err, want)
		}
	}
	if _, err := tree.Resolve("/a/x"); !errors.Is(err, errLinks) {
		t.Errorf("a loop: %v", err)
	}
	if _, ok := tree.Lookup("abs"); !ok {
		t.Error("an absolute name with .. is missing")
	}
}

// The number of steps of Resolve is bounded by the length of the path and 40 links.
func TestResolveIsLinear(t *testing.T) {
	tree := &Tree{}
	long := strings.Repeat("./", 2000)
	deep := strings.Repeat("d/", 2000)
	if err := tree.Add(layer(archive(t, link("l", long), link("m", deep+"../l"), link("o", "m/m/m/m"), link("d", "."))), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"l", "m", "o", strings.Repeat("l/", 2000), strings.Repeat("o/", 40)} {
		tree.steps = 0
		_, err := tree.Resolve(name)
		if most := int64(8 * (maxLinks + 1) * MaxPath); tree.steps > most {
			t.Errorf("%.10s: %d steps, want at most %d (%v)", name, tree.steps, most, err)
		}
	}
}

// model is a simple implementation of layers, to compare with.
type model map[string]struct {
	layer int
	kind  byte
	link  string
}

func (m model) apply(n int, headers []tar.Header) {
	hide := func(name string, itself bool) {
		for at, e := range m {
			if e.layer < n && (itself && at == name || name == "" || strings.HasPrefix(at, name+"/")) {
				delete(m, at)
			}
		}
	}
	for _, h := range headers {
		name := Clean(h.Name)
		parent, base := "", name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			parent, base = name[:i], name[i+1:]
		}
		switch hidden, ok := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			hide(parent, false)
			continue
		case ok:
			hide(strings.TrimPrefix(parent+"/"+hidden, "/"), true)
			continue
		case name == "":
			continue
		}
		if h.Typeflag != tar.TypeDir {
			hide(name, false)
		}
		e := m[name]
		e.layer, e.kind, e.link = n, h.Typeflag, h.Linkname
		m[name] = e
	}
}

// script turns bytes into the headers of layers. The small alphabet makes paths collide.
func script(data []byte) (layers [][]tar.Header) {
	layers = [][]tar.Header{nil}
	for len(data) > 1 {
		op, length := data[0]>>4, min(int(data[0]&15), len(data)-1)
		var parts []string
		for _, b := range data[1 : 1+length] {
			parts = append(parts, []string{"a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", strings.Repeat("n", 90)}[b%9])
		}
		data = data[1+length:]
		name := strings.Join(parts, "/")
		last := &layers[len(layers)-1]
		switch op % 8 {
		case 0:
			layers = append(layers, nil)
		case 1, 2:
			*last = append(*last, dir(name+"/"))
		case 3:
			*last = append(*last, link(name, name[len(name)/2:]))
		case 4:
			*last = append(*last, file(strings.TrimSuffix(name+"/.wh.b", "/")))
		case 5:
			*last = append(*last, file(name+"/.wh..wh..opq"))
		default:
			*last = append(*last, file(strings.TrimRight("x/"+name, "/")), file(strings.TrimRight("a/"+name, "/")))
		}
	}
	return layers
}

// The tree is equal to the model, its steps are linear in the input, and nothing exceeds
// the budget.
func FuzzWalk(f *testing.F) {
	f.Add([]byte{0x62, 0, 1, 0x00, 0x41, 0, 0x00, 0x62, 0, 1})
	f.Add([]byte{0x23, 0, 1, 2, 0x61, 0, 0x01, 0, 0x51, 0, 0x62, 0, 1})
	f.Add([]byte{0x31, 0, 0x01, 0, 0x63, 0, 0, 0, 0x31, 1, 0x21, 0})
	f.Add(bytes.Repeat([]byte{0x6f, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2}, 9)) // deep
	f.Add(bytes.Repeat([]byte{0x68, 8, 8, 8, 8, 8, 8, 8, 8}, 20))                     // long names
	f.Add(bytes.Repeat([]byte{0x3f, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8}, 9)) // long links
	f.Add(append(bytes.Repeat([]byte{0x62, 0, 1}, 9), bytes.Repeat([]byte{0x01, 0, 0x51, 0}, 9)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, want := &Tree{}, model{}
		for i, headers := range script(data) {
			before := tree.steps
			b := archive(t, headers...)
			if err := tree.Add(layer(b), nil); err != nil {
				var is *LayerError
				if !errors.As(err, &is) {
					t.Fatalf("%v", err)
				}
				return
			}
			if steps := tree.steps - before; steps > int64(16*len(b)) {
				t.Fatalf("%d steps for %d bytes", steps, len(b))
			}
			want.apply(i+1, headers)
		}
		if tree.used > Budget {
			t.Fatalf("%d bytes are kept", tree.used)
		}
		var got, names []string
		for n := range tree.All() {
			got = append(got, fmt.Sprintf("%s %c %s", n.Path(), n.Kind, n.Link))
			if again, ok := tree.Lookup(n.Path()); !ok || again.at != n.at {
				t.Errorf("%s is listed but Lookup does not find it", n.Path())
			}
		}
		for name, e := range want {
			names = append(names, fmt.Sprintf("%s %c %s", name, e.kind, e.link))
		}
		slices.Sort(got)
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("got  %q\nwant %q", got, names)
		}
		for name := range want {
			if at, err := tree.Resolve(name + "/a/../b"); len(at) > MaxPath {
				t.Errorf("%s leads to %d bytes, %v", name, len(at), err)
			}
		}
	})
}

// Any input is read or refused, with linear work.
func FuzzWalkBytes(f *testing.F) {
	f.Add(archive(f, link("a", "b"), file("b/c"), file("b/.wh.c")))
	f.Add(zipped(f, archive(f, dir(strings.Repeat("x/", 1000)))))
	f.Add(raw(f, record("path", strings.Repeat("y/", 2000)), file("a")))
	f.Add(window(29))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree := &Tree{Wants: func(string) bool { return true }, Content: func(_ string, r io.Reader, _ int64) (any, int64, error) {
			n, err := io.Copy(io.Discard, r)
			return nil, n, err
		}}
		err := tree.Add(layer(b), nil)
		var is *LayerError
		if err != nil && !errors.As(err, &is) {
			t.Errorf("%v", err)
		}
		if tree.used > Budget || tree.steps > 16*tree.read+64 {
			t.Errorf("%d bytes accounted, %d steps for %d bytes", tree.used, tree.steps, tree.read)
		}
	})
}
