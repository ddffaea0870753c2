package debian

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/regtest"
)

// sample returns a package with all kinds of files.
func sample(form string) regtest.Deb {
	return regtest.Deb{
		Name: "app", Version: "1:1.0-2", Arch: "arm64", Fields: "Depends: lib0 (>= 1)", Form: form,
		Files:   map[string]string{"usr/bin/app": "program", "usr/bin/link": "-> app", "usr/bin/same": "=> usr/bin/app", "var/empty/": ""},
		Scripts: map[string]string{"postinst": "#!/bin/sh\n", "prerm": "#!/bin/sh\n", "md5sums": "0  usr/bin/app\n"},
	}
}

// read returns what a package has, a line each.
func readAll(content []byte) (string, error) {
	var b strings.Builder
	err := Read(bytes.NewReader(content), func(d *Deb) error {
		name, version, architecture, err := d.Name()
		fmt.Fprintln(&b, name, version, architecture, len(d.Scripts), d.Sums != "", err)
		return nil
	}, func(f File, r io.Reader) error {
		text, err := io.ReadAll(r)
		fmt.Fprintf(&b, "%s %v %o %s%s %q\n", f.Path, f.Mode.Type(), f.Bits, f.Link, f.Hard, text)
		return err
	})
	return b.String(), err
}

// A package is read in each compression.
func TestRead(t *testing.T) {
	want := `app 1:1.0-2 arm64 1 true <nil>
usr d--------- 755  ""
usr/bin d--------- 755  ""
usr/bin/app ---------- 755  "program"
usr/bin/link L--------- 777 app ""
usr/bin/same ---------- 755 usr/bin/app ""
var d--------- 755  ""
var/empty d--------- 755  ""
`
	for _, form := range []string{"", "gz", "xz", "zst"} {
		content := sample(form).Bytes()
		got, err := readAll(content)
		if err != nil || got != want {
			t.Errorf("%q: %v\n%s", form, err, got)
		}
		// Without files, what follows the control files is not read.
		calls := 0
		if err := Read(bytes.NewReader(content[:len(content)*2/3]), func(*Deb) error { calls++; return nil }, nil); form != "" && (err != nil || calls != 1) {
			t.Errorf("%q: %v", form, err)
		}
		for _, cut := range []int{0, 7, 30, 68, 100, len(content) / 2, len(content) - 30} {
			if _, err := readAll(content[:cut]); err == nil && (form != "" || cut < len(content)/2) {
				t.Errorf("%q that is cut at %d of %d bytes is no error", form, cut, len(content))
			}
		}
	}
}

// packed returns a package whose files are the entries of an archive.
func packed(headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		_ = w.WriteHeader(&h)
		_, _ = w.Write(make([]byte, h.Size))
	}
	_ = w.Close()
	whole := regtest.Deb{Name: "app", Version: "1", Arch: "all"}.Bytes()
	at := bytes.Index(whole, []byte("data.tar"))
	return fmt.Appendf(whole[:at:at], "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", "data.tar", 0, 0, 0, 0o100644, b.Len(), b.Bytes())
}

// Hostile packages are refused.
func TestBadPackages(t *testing.T) {
	deb := regtest.Deb{Name: "app", Version: "1", Arch: "all"}.Bytes()
	replaced := func(from, to string) []byte { return bytes.Replace(deb, []byte(from), []byte(to), 1) }
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"nothing":        {nil, "it is not a Debian package"},
		"a login page":   {[]byte("<html>"), "it is not a Debian package"},
		"another format": {replaced("2.0\n", "3.0\n"), `it has the format "3.0\n", not 2.0`},
		"no start":       {replaced("debian-binary", "control.tar  "), "it is not a Debian package: it does not begin with debian-binary"},
		"no control":     {replaced("control.tar ", "others      "), `"others" is not expected there`},
		"no data":        {deb[:bytes.Index(deb, []byte("data.tar"))], "it has no files: data.tar is missing"},
		"another tar":    {replaced("data.tar ", "data.tarx"), `"data.tarx" is not expected there`},
		"a wrong size":   {replaced("4         `\n", "x         `\n"), "the header of a file in it is invalid"},
		"no file control": {
			replaced("control\x00", "kontrol\x00"), "archive/tar: invalid tar header",
		},
		"a path that leaves":   {packed(tar.Header{Name: "../etc/passwd", Typeflag: tar.TypeReg}), `"../etc/passwd" leads out of the package`},
		"one that hides it":    {packed(tar.Header{Name: "./a/../../b", Typeflag: tar.TypeReg}), `"./a/../../b" leads out of the package`},
		"an absolute path":     {packed(tar.Header{Name: "/etc/passwd", Typeflag: tar.TypeReg}), `"/etc/passwd" leads out of the package`},
		"a hard link outside":  {packed(tar.Header{Name: "./a", Linkname: "../b", Typeflag: tar.TypeLink}), `"./a" is a link to "../b", which leads out of the package`},
		"a link to nowhere":    {packed(tar.Header{Name: "./a", Typeflag: tar.TypeSymlink}), `"./a" is a link that leads nowhere`},
		"a device":             {packed(tar.Header{Name: "./null", Typeflag: tar.TypeChar}), `"./null" is neither a file, a directory nor a link`},
		"a pipe":               {packed(tar.Header{Name: "./pipe", Typeflag: tar.TypeFifo}), `"./pipe" is neither a file, a directory nor a link`},
		"a long path":          {packed(tar.Header{Name: "./" + strings.Repeat("a/", 3000), Typeflag: tar.TypeDir}), "leads out of the package"},
		"a link in the image":  {packed(tar.Header{Name: "./a", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}), ""},
		"a link that goes up":  {packed(tar.Header{Name: "./a", Linkname: "../../../b", Typeflag: tar.TypeSymlink}), ""},
		"setuid is kept as is": {packed(tar.Header{Name: "./a", Mode: 0o4755, Typeflag: tar.TypeReg}), ""},
	} {
		_, err := readAll(c.content)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	many := make([]tar.Header, maxEntries+1)
	for i := range many {
		many[i] = tar.Header{Name: "./a", Typeflag: tar.TypeDir}
	}
	if err := Read(bytes.NewReader(packed(many...)), func(*Deb) error { return nil }, func(File, io.Reader) error { return nil }); err == nil || err.Error() != "it has more than 100000 files" {
		t.Errorf("many files: %v", err)
	}
}

// A bomb is stopped at the limit.
func TestBomb(t *testing.T) {
	content := io.MultiReader(bytes.NewReader([]byte("!<arch>\n")), strings.NewReader(fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n2.0\n", "debian-binary", 0, 0, 0, 0, 4)),
		strings.NewReader(fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n", "control.tar", 0, 0, 0, 0, int64(maxControl)*2)), bytes.NewReader(make([]byte, 1)), endless{})
	if err := Read(content, func(*Deb) error { return nil }, nil); err == nil {
		t.Error("control files without end are no error")
	}
}

// endless has zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Dependencies of a package are compared with a system again when it is installed.
func TestFits(t *testing.T) {
	d := Deb{Control: "Package: app\nVersion: 1\nArchitecture: all\nPre-Depends: pre0\nDepends: lib0 (>= 2) | alt0\nBreaks: old0 (<< 3)\n"}
	for _, c := range []struct {
		base []string
		want string
	}{
		{[]string{"pre0=1", "lib0=2"}, ""},
		{[]string{"pre0=1", "alt0=1", "lib0=1", "old0=3"}, ""},
		{[]string{"pre0=1", "lib0=1"}, "app 1 depends on lib0 (>= 2) | alt0, but the base image has lib0 1"},
		{[]string{"lib0=2"}, "app 1 depends on pre0, which neither the base image nor mabuild.lock has"},
		{[]string{"pre0=1", "lib0=2", "old0=2"}, "app 1 conflicts with old0 (<< 3), and the base image has old0 2"},
	} {
		err := d.Fits(base(c.base...))
		if err != nil && err.Error() != c.want || err == nil && c.want != "" {
			t.Errorf("%q: %v, want %s", c.base, err, c.want)
		}
	}
}

// A package neither panics nor has a file outside, whatever it is.
func FuzzRead(f *testing.F) {
	for _, form := range []string{"", "gz", "xz", "zst"} {
		f.Add(sample(form).Bytes())
	}
	f.Add(packed(tar.Header{Name: "./a", Linkname: "../b", Typeflag: tar.TypeLink}))
	f.Fuzz(func(t *testing.T, content []byte) {
		_ = Read(bytes.NewReader(content), func(d *Deb) error {
			_, _ = Alternatives(d.Scripts["postinst"])
			_ = d.Fits(&System{})
			return nil
		}, func(one File, r io.Reader) error {
			if !fs.ValidPath(one.Path) || one.Hard != "" && !fs.ValidPath(one.Hard) {
				t.Errorf("%q, %q", one.Path, one.Hard)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}
