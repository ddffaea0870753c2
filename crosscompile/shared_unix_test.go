//go:build unix

package crosscompile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
)

// In a directory that all users can write to, a go.work of another user is ignored and a
// go.mod of another user is an error. Only root can give the files to another user, as in
// CI; otherwise the test checks only that the user's own go.work is used.
func TestAnotherUsersWorkspace(t *testing.T) {
	shared := write(t, map[string]string{
		"go.work":          "go 1.26\n\nuse ./mine\n\nreplace example.com/dep => ./evil\n",
		"evil/go.mod":      "module example.com/dep\n",
		"mine/go.mod":      "module example.com/mine\n\ngo 1.26\n",
		"mine/main.go":     mainGo,
		"stray/main.go":    mainGo,
		"module/go.mod":    "module example.com/stray\n",
		"module/a/main.go": mainGo,
	})
	for _, dir := range []string{shared, filepath.Join(shared, "module")} {
		if err := os.Chmod(dir, 0o1777); err != nil {
			t.Fatal(err)
		}
	}
	work, module := filepath.Join(shared, "go.work"), filepath.Join(shared, "module", "go.mod")
	find := func(dir string) (*crosscompile.Go, error) {
		g := &crosscompile.Go{Environ: append(os.Environ(), "GOFLAGS=", "GOWORK=")}
		_, err := g.Find(t.Context(), crosscompile.Query{Dir: filepath.Join(shared, dir), Pattern: "."})
		return g, err
	}
	if g, err := find("mine"); err != nil {
		t.Fatal(err)
	} else if got, _ := g.Work(filepath.Join(shared, "mine")); got != work {
		t.Errorf("workspace %q, want %q", got, work)
	}
	if os.Geteuid() != 0 {
		t.Log("only root can create files of another user")
		return
	}
	for _, file := range []string{work, module} {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(work, []byte("this is not read\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if g, err := find("mine"); err != nil {
		t.Error(err)
	} else if got, _ := g.Work(filepath.Join(shared, "mine")); got != "" {
		t.Errorf("the go.work of another user is used: %q", got)
	}
	if _, err := find("module/a"); err == nil || !strings.Contains(err.Error(), "module/go.mod belongs to another user") {
		t.Errorf("the go.mod of another user: %v", err)
	}
}
