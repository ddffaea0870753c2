package debs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// onto calls use with the tree of a base of files: contents by path, "-> " is a link.
func onto(t *testing.T, files map[string]string, use func(*rootfs.Tree) error) error {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		h := tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, to, 0, ""
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	var fs basefs.Reader
	return fs.Read([]v1.Layer{l}, use)
}

// place returns what the packages become on a base, a line for each entry that is no
// directory, and the names of the packages that were added.
func place(t *testing.T, base map[string]string, rules map[string]string, docs bool, debs ...regtest.Deb) (string, []string, error) {
	t.Helper()
	dir := t.TempDir()
	set := &Set{Rules: rules, Docs: docs}
	for _, d := range debs {
		content := d.Bytes()
		sum := sha256.Sum256(content)
		p := Package{Name: d.Name, Version: d.Version, Architecture: "arm64", URL: "http://archive/" + d.Name, SHA256: hex.EncodeToString(sum[:])}
		if err := os.WriteFile(filepath.Join(dir, p.SHA256), content, 0o600); err != nil {
			t.Fatal(err)
		}
		set.Packages = append(set.Packages, p)
	}
	m := &Maker{Work: t.TempDir(), Download: func(_ context.Context, _, sum string) (string, error) { return filepath.Join(dir, sum), nil }}
	if err := m.Unpack(t.Context(), set); err != nil {
		return "", nil, err
	}
	var b strings.Builder
	var names []string
	err := onto(t, base, func(tree *rootfs.Tree) error {
		entries, added, err := set.Place(tree, "arm64")
		if err != nil {
			return err
		}
		for _, p := range added {
			names = append(names, p.Name)
		}
		if entries, err = placement.Complete(tree, entries); err != nil {
			return err
		}
		slices.SortFunc(entries, layerfile.ByName)
		for _, e := range entries {
			if e.Kind == tar.TypeDir || strings.HasPrefix(e.Name, "var/lib/dpkg/status.d/") {
				continue
			}
			fmt.Fprintf(&b, "%s", e.Name)
			switch e.Kind {
			case tar.TypeSymlink:
				fmt.Fprintf(&b, " -> %s", e.Link)
			case tar.TypeLink:
				fmt.Fprintf(&b, " => %s", e.Link)
			default:
				r, err := e.Open()
				if err != nil {
					return err
				}
				text, err := io.ReadAll(r)
				fmt.Fprintf(&b, " %o %q", e.Mode, text)
				if err = errors.Join(err, r.Close()); err != nil {
					return err
				}
			}
			b.WriteString("\n")
		}
		return nil
	})
	return b.String(), names, err
}

// deb returns a package of files, by path and content in turn.
func deb(name string, files ...string) regtest.Deb {
	d := regtest.Deb{Name: name, Version: "1", Arch: "arm64", Files: map[string]string{}, Form: "xz"}
	for i := 0; i < len(files); i += 2 {
		d.Files[files[i]] = files[i+1]
	}
	return d
}

const status = "var/lib/dpkg/status"

// Files of packages go where the links of the base lead, and nothing replaces a link.
func TestPlace(t *testing.T) {
	merged := map[string]string{"usr/lib/": "", "usr/sbin/": "", "lib": "-> usr/lib", "sbin": "-> /usr/sbin"}
	usrMerged := deb("base-files", "bin", "-> usr/bin", "lib64", "-> usr/lib64", "usr/bin/x", "x", "usr/lib64/", "")
	for name, c := range map[string]struct {
		base map[string]string
		debs []regtest.Deb
		want string
	}{
		"plain":                     {nil, []regtest.Deb{deb("aa", "lib/a", "1", "usr/bin/b", "2", "usr/bin/c", "-> b")}, "lib/a 644 \"1\"\nusr/bin/b 755 \"2\"\nusr/bin/c -> b\n"},
		"on a merged base":          {merged, []regtest.Deb{deb("aa", "lib/a", "1", "sbin/b", "2", "usr/lib/c", "3")}, "usr/lib/a 644 \"1\"\nusr/lib/c 644 \"3\"\nusr/sbin/b 755 \"2\"\n"},
		"links of another package":  {nil, []regtest.Deb{deb("aa", "bin/a", "1", "lib64/ld.so", "-> ../lib/ld.so"), usrMerged}, "bin -> usr/bin\nlib64 -> usr/lib64\nusr/bin/a 755 \"1\"\nusr/bin/x 755 \"x\"\nusr/lib64/ld.so -> ../lib/ld.so\n"},
		"the same link as the base": {map[string]string{"usr/lib/": "", "lib": "-> usr/lib"}, []regtest.Deb{deb("aa", "lib", "-> usr/lib")}, ""},
		"another link":              {merged, []regtest.Deb{deb("aa", "lib", "-> usr/other")}, "packages: aa: /lib is a link to usr/lib in the base image, and the package would replace it"},
		"a file in place of a link": {map[string]string{"etc/a": "-> b"}, []regtest.Deb{deb("aa", "etc/a", "1")}, "packages: aa: /etc/a is a link to b in the base image, and the package would replace it"},
		"a file of the base":        {map[string]string{"etc/a": "old"}, []regtest.Deb{deb("aa", "etc/a", "1")}, "etc/a 644 \"1\"\n"},
		"a directory of the base":   {map[string]string{"etc/a/": ""}, []regtest.Deb{deb("aa", "etc/a", "1")}, "packages: aa: /etc/a is a directory either in the base image or in the package"},
		"a link over a directory":   {map[string]string{"lib/": ""}, []regtest.Deb{deb("aa", "lib", "-> usr/lib")}, "packages: aa: /lib is a directory either in the base image or in the package"},
		"hard links":                {nil, []regtest.Deb{deb("aa", "usr/bin/m", "1", "usr/bin/z", "=> usr/bin/m", "usr/lib/a", "=> usr/bin/m")}, "usr/bin/m 755 \"1\"\nusr/bin/z => usr/bin/m\nusr/lib/a => usr/bin/m\n"},
		"a hard link before":        {map[string]string{"usr/": "", "bin": "-> usr/bin"}, []regtest.Deb{deb("aa", "bin/m", "1", "etc/z", "=> bin/m")}, "etc/z 755 \"1\"\nusr/bin/m => etc/z\n"},
		"a hard link to nothing":    {nil, []regtest.Deb{deb("aa", "etc/z", "=> bin/m")}, "packages: aa: /etc/z is a link to /bin/m, which is not in the package"},
		"a file of two packages":    {nil, []regtest.Deb{deb("aa", "etc/a", "1"), deb("bb", "etc/a", "2")}, "packages: bb: /etc/a is in aa, too, with another content"},
		"with the same content":     {nil, []regtest.Deb{deb("aa", "etc/a", "1"), deb("bb", "etc/a", "1")}, "etc/a 644 \"1\"\n"},
		"by two paths":              {merged, []regtest.Deb{deb("aa", "lib/a", "1"), deb("bb", "usr/lib/a", "2")}, "packages: bb: /usr/lib/a is in aa, too, with another content"},
		"links in a circle":         {map[string]string{"lib": "-> lib"}, []regtest.Deb{deb("aa", "lib/a", "1")}, "packages: aa: /lib: too many links in the base image"},
		"own links in a circle":     {nil, []regtest.Deb{deb("aa", "lib", "-> lib"), deb("bb", "lib/a", "1")}, "packages: bb: /lib leads through more than 40 links"},
		"a link that leaves":        {nil, []regtest.Deb{deb("aa", "lib", "-> ../../etc"), deb("bb", "lib/a", "1")}, "etc/a 644 \"1\"\nlib -> ../../etc\n"},
		"a whiteout":                {nil, []regtest.Deb{deb("aa", "etc/.wh.passwd", "1")}, "files: /etc/.wh.passwd: names that begin with .wh. are reserved: they delete files of the base image"},
		"a base that has it":        {map[string]string{status: "Package: aa\nStatus: install ok installed\nVersion: 0\nArchitecture: arm64\n"}, []regtest.Deb{deb("aa", "etc/a", "1"), deb("bb", "etc/b", "2")}, "etc/b 644 \"2\"\n"},
		"one for another machine":   {map[string]string{status: "Package: aa\nStatus: install ok installed\nVersion: 0\nArchitecture: amd64\n"}, []regtest.Deb{deb("aa", "etc/a", "1")}, "etc/a 644 \"1\"\n"},
		"a broken database":         {map[string]string{status: "Package\n"}, []regtest.Deb{deb("aa", "etc/a", "1")}, "the base image has a database of packages that cannot be read: /var/lib/dpkg/status: line 1: \"Package\" is not a field"},
		"documentation": {
			nil,
			[]regtest.Deb{deb("aa", "usr/share/doc/aa/copyright", "free", "usr/share/doc/aa/changelog.gz", "1", "usr/share/doc/bb", "-> aa", "usr/share/man/man1/a.1.gz", "1", "usr/share/locale/de/a.mo", "1", "usr/share/a", "1")},
			"usr/share/a 644 \"1\"\nusr/share/doc/aa/copyright 644 \"free\"\nusr/share/doc/bb -> aa\n",
		},
	} {
		got, _, err := place(t, c.base, nil, false, c.debs...)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
	if got, _, err := place(t, nil, nil, true, deb("aa", "usr/share/man/man1/a.1.gz", "1")); err != nil || got != "usr/share/man/man1/a.1.gz 644 \"1\"\n" {
		t.Errorf("with documentation: %s, %v", got, err)
	}
}

// The rules do what scripts would do in an image, and nothing else.
func TestRules(t *testing.T) {
	tool := deb("tool", "usr/sbin/tool-legacy", "1", "usr/sbin/tool-nft", "2", "usr/sbin/tool-nft-save", "3")
	tool.Scripts = map[string]string{"postinst": `#!/bin/sh
update-alternatives --install /usr/sbin/tool tool /usr/sbin/tool-legacy 10 --slave /usr/sbin/tool-save tool-save /usr/sbin/tool-legacy-save
update-alternatives \
  --install /usr/sbin/tool tool /usr/sbin/tool-nft 20 \
  --slave /usr/sbin/tool-save tool-save /usr/sbin/tool-nft-save \
  --slave /usr/share/man/man8/tool.8 tool.8 /usr/share/man/man8/tool-nft.8
update-alternatives --install /usr/sbin/gone gone /usr/sbin/gone-nft 20
`}
	files := "usr/sbin/tool-legacy 644 \"1\"\nusr/sbin/tool-nft 644 \"2\"\nusr/sbin/tool-nft-save 644 \"3\"\n"
	files = strings.ReplaceAll(files, "644", "755")
	highest := "etc/alternatives/tool -> /usr/sbin/tool-nft\netc/alternatives/tool-save -> /usr/sbin/tool-nft-save\nusr/sbin/tool -> /etc/alternatives/tool\n"
	cas := deb("ca-certificates", "usr/share/ca-certificates/b.crt", "B", "usr/share/ca-certificates/a/a.crt", "A\n", "usr/share/ca-certificates/readme", "no")
	cas.Scripts = map[string]string{"postinst": "update-ca-certificates\n"}
	vars := deb("vars", "a", "1")
	vars.Scripts = map[string]string{"postinst": "update-alternatives --install $x x /usr/bin/x 1\n"}
	for _, c := range []struct {
		rule string
		base map[string]string
		deb  regtest.Deb
		want string
	}{
		{"ignore", nil, tool, files},
		{"alternatives", nil, tool, highest + strings.Replace(files, "usr/sbin/tool-nft-save", "usr/sbin/tool-nft-save", 1) + "usr/sbin/tool-save -> /etc/alternatives/tool-save\n"},
		{"alternatives:legacy", nil, tool, "etc/alternatives/tool -> /usr/sbin/tool-legacy\nusr/sbin/tool -> /etc/alternatives/tool\n" + files},
		{"alternatives:other", nil, tool, "packages: tool: its script installs no alternative for the rule alternatives:other"},
		{"alternatives", map[string]string{"etc/alternatives/tool": "-> /mine", "usr/sbin/tool": "-> /etc/alternatives/tool"}, tool, "etc/alternatives/tool-save -> /usr/sbin/tool-nft-save\n" + files + "usr/sbin/tool-save -> /etc/alternatives/tool-save\n"},
		{"", nil, tool, "package tool has a script postinst, which is not run:\n    #!/bin/sh\n    update-alternatives --install"},
		{"other", nil, tool, `packages: tool: unknown rule "other" for scripts`},
		{"alternatives", nil, vars, "packages: vars: its script cannot be read: it has variables, which only running it would fill in: update-alternatives"},
		{"ca-certificates", nil, cas, "etc/ssl/certs/ca-certificates.crt 644 \"A\\nB\\n\"\nusr/share/ca-certificates/a/a.crt 644 \"A\\n\"\nusr/share/ca-certificates/b.crt 644 \"B\"\nusr/share/ca-certificates/readme 644 \"no\"\n"},
	} {
		rules := map[string]string{}
		if c.rule != "" {
			rules[c.deb.Name] = c.rule
		}
		got, _, err := place(t, c.base, rules, false, c.deb)
		if err != nil {
			got = err.Error()
			got = got[:min(len(got), len(c.want))]
		}
		if got != c.want {
			t.Errorf("%s with %q:\n%s, want\n%s", c.deb.Name, c.rule, got, c.want)
		}
	}
}

// What was chosen for another base is compared with this one.
func TestDependencies(t *testing.T) {
	app := deb("app", "app", "1")
	app.Fields = "Depends: lib0 (>= 2)"
	lib := func(version string) map[string]string {
		return map[string]string{status + ".d/lib0": "Package: lib0\nVersion: " + version + "\nArchitecture: arm64\n"}
	}
	if _, names, err := place(t, lib("2"), nil, false, app, deb("lib0")); err != nil || !slices.Equal(names, []string{"app"}) {
		t.Errorf("%q, %v", names, err)
	}
	for want, base := range map[string]map[string]string{
		"app 1 depends on lib0 (>= 2), but the base image has lib0 1.9":                   lib("1.9"),
		"app 1 depends on lib0 (>= 2), which neither the base image nor mabuild.lock has": nil,
	} {
		if _, _, err := place(t, base, nil, false, app); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A package that is not the one of the lock, or cannot be read, is an error with its URL.
func TestWrongPackage(t *testing.T) {
	good := deb("app", "a", "1")
	dir := t.TempDir()
	file := filepath.Join(dir, "deb")
	for want, p := range map[string]Package{
		"":                               {Name: "app", Version: "1", Architecture: "arm64"},
		"it is app 1":                    {Name: "app", Version: "2", Architecture: "arm64"},
		"it is for arm64, not for armhf": {Name: "app", Version: "1", Architecture: "armhf"},
		"it is not a Debian package":     {Name: "page", Version: "1", Architecture: "arm64"},
	} {
		content := good.Bytes()
		if p.Name == "page" {
			content = []byte("<html>")
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		p.URL = "http://archive/app.deb"
		m := &Maker{Work: dir, Download: func(context.Context, string, string) (string, error) { return file, nil }}
		err := m.Unpack(t.Context(), &Set{Packages: []Package{p}})
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != "package "+p.Name+" "+p.Version+": http://archive/app.deb: "+want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Status files are those of the packages, and list only files that are there.
func TestStatusFiles(t *testing.T) {
	d := deb("app", "usr/bin/app", "1", "usr/share/man/man1/app.1", "2")
	d.Scripts = map[string]string{"md5sums": "0  usr/bin/app\n1  usr/share/man/man1/app.1\n"}
	content := d.Bytes()
	file := filepath.Join(t.TempDir(), "deb")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Maker{Work: t.TempDir(), Download: func(context.Context, string, string) (string, error) { return file, nil }}
	s := &Set{Packages: []Package{{Name: "app", Version: "1", Architecture: "arm64"}}}
	if err := m.Unpack(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	entries, _, err := s.Place(&rootfs.Tree{}, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"var/lib/dpkg/status.d/app": d.Control(), "var/lib/dpkg/status.d/app.md5sums": "0  usr/bin/app\n"}
	for _, e := range entries {
		if text, ok := want[e.Name]; ok {
			r, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(r)
			if string(got) != text || e.Mode != 0o644 {
				t.Errorf("%s: %q, want %q", e.Name, got, text)
			}
			delete(want, e.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("%v are missing", want)
	}
}
