package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// bzipOfTwo is a tar.bz2 of the two files of twoFiles, since Go has no writer of bzip2.
const bzipOfTwo = "QlpoOTFBWSZTWd8hgFgAAIv7gMuAAQBAA++ACIBip94gCQggAHQSkZUZNMQaejRGJ6m9UElIAADQAaA+04pB82YADokkIa1xg9OG" +
	"M1YwkEIYAxWpI8jEYCDEAQymogzSMIll3a8qZa5yrVDxPJ40MaUXTbj910BgeBwsFctLHcfARA/i7kinChIb5DALAA=="

// twoFiles are in the archives of the tests.
var twoFiles = []tar.Header{
	{Name: "app-1/app", Mode: 0o755, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"comment": "program"}},
	{Name: "app-1/app.yml", Mode: 0o644, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"comment": "settings"}},
}

// tarOf makes a tar archive. The content of a file is its comment.
func tarOf(t testing.TB, list ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		content := h.PAXRecords["comment"]
		h.PAXRecords, h.Size = nil, int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipOf makes a zip archive. The content of a link is its target.
func zipOf(t testing.TB, list ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, h := range list {
		f := &zip.FileHeader{Name: h.Name, Method: zip.Deflate}
		content, mode := h.PAXRecords["comment"], fs.FileMode(h.Mode)
		switch h.Typeflag {
		case tar.TypeSymlink:
			content, mode = h.Linkname, mode|fs.ModeSymlink
		case tar.TypeChar:
			mode |= fs.ModeDevice | fs.ModeCharDevice
		}
		f.SetMode(mode)
		file, err := w.CreateHeader(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(file, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pack compresses content in a format: gz, xz or zst.
func pack(t testing.TB, format string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// forms returns an archive of twoFiles in each form, and a program in each form of a single
// file.
func forms(t testing.TB) (archives, singles map[string][]byte) {
	t.Helper()
	bzipped, err := base64.StdEncoding.DecodeString(bzipOfTwo)
	if err != nil {
		t.Fatal(err)
	}
	archives = map[string][]byte{"tar": tarOf(t, twoFiles...), "zip": zipOf(t, twoFiles...), "tar.bz2": bzipped}
	singles = map[string][]byte{"raw": []byte("program")}
	for _, format := range []string{"gz", "xz", "zst"} {
		archives["tar."+format] = pack(t, format, archives["tar"])
		singles[format] = pack(t, format, []byte("program"))
	}
	return archives, singles
}

// extract returns what Extract writes, by pattern.
func extract(content []byte, patterns ...string) (map[string]string, error) {
	got := map[string]string{}
	err := Extract(bytes.NewReader(content), int64(len(content)), patterns, func(i int, f File, r io.Reader) error {
		b, err := io.ReadAll(r)
		got[patterns[i]] = fmt.Sprintf("%s %o %s", f.Name, f.Mode.Perm(), b)
		return err
	})
	return got, err
}

// Every form has the same files, whatever its name.
func TestForms(t *testing.T) {
	archives, singles := forms(t)
	if len(archives)+len(singles) != 10 {
		t.Fatalf("%d forms", len(archives)+len(singles))
	}
	for form, content := range archives {
		got, err := extract(content, "*/app", "**/*.yml")
		want := map[string]string{"*/app": "app-1/app 755 program", "**/*.yml": "app-1/app.yml 644 settings"}
		if err != nil || !maps.Equal(got, want) || !Is(bytes.NewReader(content)) {
			t.Errorf("%s: %v, %v", form, got, err)
		}
		if _, err := extract(content, ""); err == nil || !strings.Contains(err.Error(), `it has 2 files, and none is chosen: "app-1/app", "app-1/app.yml"`) {
			t.Errorf("%s: %v", form, err)
		}
	}
	for form, content := range singles {
		got, err := extract(content, "")
		if err != nil || got[""] != " 755 program" || Is(bytes.NewReader(content)) != (form != "raw") {
			t.Errorf("%s: %v, %v", form, got, err)
		}
		if _, err := extract(content, "*/app"); err == nil || err.Error() != `it is a single file, so nothing in it matches "*/app"` {
			t.Errorf("%s: %v", form, err)
		}
	}
}

// A link counts as the file that it leads to.
func TestLinks(t *testing.T) {
	for form, content := range map[string][]byte{
		"tar": tarOf(t, tar.Header{Name: "./bin/app", Linkname: "../lib/link", Typeflag: tar.TypeSymlink}, tar.Header{Name: "lib/link", Linkname: "lib/app", Typeflag: tar.TypeLink}, file("lib/app", "program")),
		"zip": zipOf(t, file("lib/app", "program"), tar.Header{Name: "bin/app", Linkname: "../lib/app", Typeflag: tar.TypeSymlink}),
	} {
		if got, err := extract(content, "bin/app"); err != nil || got["bin/app"] != "lib/app 755 program" {
			t.Errorf("%s: %v, %v", form, got, err)
		}
	}
}

// file returns a regular file of mode 0755.
func file(name, content string) tar.Header {
	return tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"comment": content}}
}

// What is wrong with an archive is an error, and nothing is written.
func TestBadArchives(t *testing.T) {
	app := file("app", "program")
	many := make([]tar.Header, maxEntries+1)
	for i := range many {
		many[i] = file(fmt.Sprint(i), "")
	}
	link := func(name, target string, kind byte) tar.Header {
		return tar.Header{Name: name, Linkname: target, Typeflag: kind}
	}
	archives, _ := forms(t)
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"empty tar":                {tarOf(t), `it is a single file, so nothing in it matches "app"`},
		"empty zip":                {zipOf(t), `nothing in it matches "app"; it has no files`},
		"no program":               {tarOf(t, file("other", "")), `nothing in it matches "app"; it has "other"`},
		"twice":                    {tarOf(t, app, app), `"app" matches 2 files: "app", "app"`},
		"twice in a zip":           {zipOf(t, app, app), `"app" matches 2 files: "app", "app"`},
		"a path that leaves":       {tarOf(t, app, file("../x", "")), `"../x" leads out of the archive`},
		"a path that leaves late":  {tarOf(t, app, file("a/b/../../../x", "")), `"a/b/../../../x" leads out of the archive`},
		"an absolute path":         {tarOf(t, app, file("/etc/x", "")), `"/etc/x" leads out of the archive`},
		"a path with backslash":    {zipOf(t, app, file(`..\x`, "")), `"../x" leads out of the archive`},
		"a link that leaves":       {tarOf(t, app, link("a", "../../etc/passwd", tar.TypeSymlink)), `"a" is a link to "../../etc/passwd", which leads out of the archive`},
		"an absolute link":         {tarOf(t, app, link("a", "/etc/passwd", tar.TypeSymlink)), `"a" is a link to "/etc/passwd", which leads out of the archive`},
		"a hard link that leaves":  {tarOf(t, app, link("b/a", "../x", tar.TypeLink)), `"b/a" is a link to "../x", which leads out of the archive`},
		"a zip's link that leaves": {zipOf(t, app, link("a", "../x", tar.TypeSymlink)), `"a" is a link to "../x", which leads out of the archive`},
		"a link to nothing":        {tarOf(t, link("app", "none", tar.TypeSymlink)), `app is a link to none, which is not a file of the archive`},
		"a link to itself":         {tarOf(t, link("app", "app", tar.TypeSymlink)), `app is a link that leads to itself`},
		"a device":                 {tarOf(t, app, tar.Header{Name: "null", Typeflag: tar.TypeChar}), `"null" is neither a file, a directory nor a link`},
		"a pipe":                   {tarOf(t, app, tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}), `"pipe" is neither a file, a directory nor a link`},
		"a zip's device":           {zipOf(t, app, tar.Header{Name: "null", Typeflag: tar.TypeChar}), `"null" is neither a file, a directory nor a link`},
		"too many entries":         {tarOf(t, many...), "it has more than 10000 entries"},
		"too many in a zip":        {zipOf(t, many...), "it has more than 10000 entries"},
		"a bomb":                   {bomb(t), "it unpacks to more than the limit of 2147483648 bytes"},
		"a large window":           {append([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x28\x00\x00\x00\xe6\xa0\x11\xb3"), make([]byte, 100)...), "to unpack it needs more than the limit of 134217728 bytes of memory"},
		"encrypted":                {encrypted(t), `"app" is encrypted`},
		"a large directory":        {zipOf(t, slices.Repeat([]tar.Header{file(strings.Repeat("n", 60000), "")}, 80)...), "its directory has more than 4194304 bytes"},
	} {
		got, err := extract(c.content, "app")
		if err == nil || err.Error() != c.want || len(got) > 0 {
			t.Errorf("%s: %v, %v, want %s", name, got, err, c.want)
		}
	}
	for form, content := range archives {
		for _, cut := range []int{len(content) / 3, len(content) / 2, len(content) - 20} {
			if _, err := extract(content[:cut], "*/app"); err == nil {
				t.Errorf("%s that is cut at %d of %d bytes is taken for a whole one", form, cut, len(content))
			}
		}
	}
	large := io.NewSectionReader(strings.NewReader(""), 0, maxInput+1)
	if err := Extract(large, large.Size(), nil, nil); err == nil || err.Error() != "it has 536870913 bytes, more than the limit of 536870912" {
		t.Errorf("a large archive: %v", err)
	}
}

// bomb returns a small file that unpacks to more than maxOutput: gzip members of zeros.
func bomb(t *testing.T) []byte {
	t.Helper()
	const member = 64 << 20
	return bytes.Repeat(pack(t, "gz", make([]byte, member)), maxOutput/member+1)
}

// encrypted returns a zip archive that says that its file is encrypted.
func encrypted(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.CreateRaw(&zip.FileHeader{Name: "app", Flags: 1, CRC32: crc32.ChecksumIEEE([]byte("x")), CompressedSize64: 1, UncompressedSize64: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever an archive has, Extract writes only files that match, under names that stay inside,
// and does not write more than the bound.
func FuzzExtract(f *testing.F) {
	archives, singles := forms(f)
	for _, content := range archives {
		f.Add(content, "*/app")
	}
	for _, content := range singles {
		f.Add(content, "")
	}
	f.Add(tarOf(f, tar.Header{Name: "app", Linkname: "b", Typeflag: tar.TypeSymlink}, tar.Header{Name: "b", Linkname: "app", Typeflag: tar.TypeLink}), "app")
	f.Fuzz(func(t *testing.T, content []byte, pattern string) {
		files := 0
		err := Extract(bytes.NewReader(content), int64(len(content)), []string{pattern}, func(i int, f File, r io.Reader) error {
			files++
			if i != 0 || f.Name != "" && !fs.ValidPath(f.Name) || f.Mode&^fs.ModePerm != 0 && f.Mode.Type() != 0 {
				t.Errorf("%d %+v", i, f)
			}
			n, err := io.Copy(io.Discard, r)
			if n > maxOutput {
				t.Errorf("%d bytes", n)
			}
			return err
		})
		if files > 1 || err == nil && files != 1 {
			t.Errorf("%d files, %v", files, err)
		}
	})
}
