package build

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/build/internal/layerfile"
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
		entries, err := fileEntries(Spec{Dir: dir, Files: []File{{From: from, To: "/to"}}}, func(string) {})
		var names []string
		for _, e := range entries {
			names = append(names, e.Name)
		}
		var se *SpecError
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
	entries, err := fileEntries(Spec{Dir: dir, Files: []File{{From: ".", To: "/src"}}}, func(string) {})
	if err != nil || slices.ContainsFunc(entries, func(e layerfile.Entry) bool { return strings.Contains(e.Name, ".git") }) || len(entries) != 6 {
		t.Errorf("%v, %v", entries, err)
	}
}
