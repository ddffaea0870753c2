package placement

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/filelist"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// Two entries of an image that need the same path are an error.
func TestFilesThatCollideAreRefused(t *testing.T) {
	x, y := layerfile.Inline("srv/x", 0o644, nil), layerfile.Inline("srv/x/y", 0o644, nil)
	link := layerfile.Entry{Name: "opt/link", Kind: tar.TypeSymlink, Link: "real", Mode: 0o777}
	for name, group := range map[string][]layerfile.Entry{
		"below a file":     {x, y},
		"the same path":    {x, x},
		"below a new link": {link, layerfile.Inline("opt/link/b", 0o644, nil)},
	} {
		if list, err := resolvePaths(&rootfs.Tree{}, group); err == nil {
			t.Errorf("%s: accepted as %v", name, list)
		}
	}
	w := &layerfile.Writer{Work: t.TempDir(), Format: "gzip", Level: 1, Alive: func() error { return nil }}
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for name, files := range map[string][]layerfile.Entry{
		"on the program": {layerfile.Inline("mabuild/program", 0o644, nil)},
		"above it":       {layerfile.Inline("mabuild", 0o644, nil)},
		"a link above":   {{Name: "mabuild", Kind: tar.TypeSymlink, Link: "srv", Mode: 0o777}},
		"below it":       {layerfile.Inline("mabuild/program/x", 0o644, nil)},
	} {
		program := layerfile.Inline("mabuild/program", 0o755, nil)
		if added, err := Layers(&basefs.Reader{Cache: w.Cache}, w, p, nil, []Part{{Comment: "files", Entries: files}, {Comment: "program", Entries: []layerfile.Entry{program}}}); err == nil {
			t.Errorf("%s: %d layers", name, len(added))
		}
	}
}

// A name is refused if it would delete a file of the base image or could not be unpacked.
func TestNamesThatNoLayerCanHold(t *testing.T) {
	for name, want := range map[string]string{
		"etc/passwd": "", "a/.wh": "", "a/x.wh.y": "", "a/.whx": "", strings.Repeat("a", 255): "", "ü/ö": "",
		"etc/.wh.passwd": "delete files", ".wh..wh..opq": "delete files", ".wh.d/x": "delete files", strings.Repeat("a", 256): "has 256 bytes",
		strings.Repeat("a/", 2100): "has 4200 bytes", "a\xff": "not valid UTF-8",
	} {
		err := holdable(name, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	for name, fine := range map[string]bool{"app.exe": true, "a:b": false, "a.": false, "a/b ": false, "what?": false} {
		if err := holdable(name, true); (err == nil) != fine {
			t.Errorf("%q on Windows: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".wh.passwd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []filelist.File{{From: ".", To: "/etc"}, {From: ".wh.passwd", To: "/etc/"}, {From: ".wh.passwd", To: "/mabuild/.wh.x/y"}} {
		entries, err := filelist.Entries(dir, []filelist.File{f}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		var se *specerr.Error
		if _, err := Layers(&basefs.Reader{}, &layerfile.Writer{}, ocispec.Platform{OS: "linux", Architecture: "amd64"}, nil, []Part{{Comment: "files", Entries: entries}}); !errors.As(err, &se) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
