package filelist

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/specerr"
)

// Files that lead out of the directory or into .git are refused or left out, whatever links
// they go through.
func TestFilesStayInTheTree(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	for name, content := range map[string]string{"web/a": "in", "web/.git/config": "token", ".git/config": "token", "sub/.git": "gitdir: x", "sub/b": "in"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"out": outside, "proc": "/proc/self", "git": ".git", "same": "web", "abs": filepath.Join(dir, "web")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[string]string{
		"web": "to to/a", ".git": "inside .git", "git/config": "inside .git", ".git/config": "inside .git", "sub": "to to/b", "web/../.git/config": "inside .git",
		"out/secret": "is outside", "out": "is outside", "proc/environ": "is outside", "../x": "is outside", "/etc/passwd": "is outside", outside + "/secret": "is outside",
		"same/a": "to", "abs/a": "to", "same": "to to/a", "none": "does not exist",
	} {
		entries, err := Entries(dir, []File{{From: from, To: "/to"}}, func(string) {})
		var names []string
		for _, e := range entries {
			names = append(names, e.Name)
		}
		var se *specerr.Error
		got := strings.Join(names, " ")
		if err != nil && errors.As(err, &se) {
			got = se.Reason
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: %s, %v, want %s", from, got, err, want)
		}
	}
	// If the whole directory is copied, .git is left out, and a link that leads out of the
	// directory is an error.
	if err := os.Remove(filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"proc", "git", "abs"} {
		if err := os.Remove(filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := Entries(dir, []File{{From: ".", To: "/src"}}, func(string) {})
	if err != nil || slices.ContainsFunc(entries, func(e layerfile.Entry) bool { return strings.Contains(e.Name, ".git") }) || len(entries) != 6 {
		t.Errorf("%v, %v", entries, err)
	}
}

// Files are copied with normalized modes and links as links. A path that leads out of the
// tree or does not exist is a specerr.Error.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"web/index.html": 0o600, "web/css/a.css": 0o664, "web/run": 0o700, "one": 0o644, "../secret": 0o600} {
		path := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	tree := filepath.Join(dir, "tree")
	for link, to := range map[string]string{"web/link": "css/a.css", "escape": "../secret", "up/link": "../../secret", "in": "one"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := Entries(tree, []File{{From: "./web", To: "/srv/web"}, {From: "in", To: "/etc/"}, {From: "one", To: "/etc/two", Mode: 0o640}}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, e := range entries {
		got[e.Name+e.Link] = e.Mode
	}
	want := map[string]int64{
		"srv/web": 0o755, "srv/web/index.html": 0o644, "srv/web/css": 0o755, "srv/web/css/a.css": 0o644, "srv/web/run": 0o755,
		"srv/web/linkcss/a.css": 0o777, "etc/in": 0o644, "etc/two": 0o640,
	}
	for name, mode := range want {
		if got[name] != mode {
			t.Errorf("%s: mode %o, want %o", name, got[name], mode)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for _, from := range []string{"../secret", "escape", "up", "missing", "/etc/passwd"} {
		_, err := Entries(tree, []File{{From: from, To: "/x"}}, func(string) {})
		var se *specerr.Error
		if !errors.As(err, &se) {
			t.Errorf("%s: %v; want a specerr.Error", from, err)
		}
	}
}

// A Git LFS pointer among the files causes a warning.
func TestPointersOfLFS(t *testing.T) {
	dir := t.TempDir()
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
	for name, content := range map[string]string{"web/model.bin": pointer, "web/small": "version", "web/large": pointer + strings.Repeat("x", 2000)} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "web"), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var warned []string
	if _, err := Entries(dir, []File{{From: "web", To: "/srv"}}, func(text string) { warned = append(warned, text) }); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "/srv/model.bin is a Git LFS pointer") {
		t.Errorf("%q", warned)
	}
}
