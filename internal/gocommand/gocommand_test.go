package gocommand_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/mabuild/mabuild/internal/gocommand"
)

// The fingerprint changes with everything that may change what is built, and with nothing
// else. A go command that may run another one has no fingerprint.
func TestFingerprint(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join("pkg", "tool", runtime.GOOS+"_"+runtime.GOARCH)
	put := func(dir, name, content string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(root, "bin/go", "go")
	put(root, "VERSION", "go1.26.8")
	put(root, filepath.Join(tool, "compile"), "compile")
	base := []string{"HOME=" + home, "PATH=" + filepath.Join(root, "bin")}
	of := func(more ...string) (string, error) {
		c := gocommand.Command{Name: filepath.Join(root, "bin", "go"), Environ: append(base, more...)}
		return c.Fingerprint()
	}
	last, err := of()
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{"EDITOR=vi", "GOOGLE_APPLICATION_CREDENTIALS=/x"} {
		if got, err := of(same); got != last || err != nil {
			t.Errorf("%s changes the fingerprint, or %v", same, err)
		}
	}
	if got, err := of("GOROOT=" + root); got == last || err != nil {
		t.Errorf("the same GOROOT: changed %t, %v", got != last, err)
	}
	for _, other := range []string{"GOFLAGS=-tags=x", "GOTOOLCHAIN=go1.30.0", "GOWORK=off", "GOENV=off"} {
		if got, err := of(other); got == last || err != nil {
			t.Errorf("%s: changed %t, %v", other, got != last, err)
		}
	}
	for _, change := range []struct{ dir, name, content string }{
		{root, "VERSION", "go1.26.9"},
		{root, "go.env", "GOPROXY=off"},
		{root, "bin/go", "another"},
		{root, filepath.Join(tool, "compile"), "another"},
		{root, filepath.Join(tool, "link"), "link"},
		{home, ".config/go/env", "GOFLAGS=-mod=mod"},
	} {
		put(change.dir, change.name, change.content)
		got, err := of()
		if err != nil || got == last {
			t.Errorf("%s: changed %t, %v", change.name, got != last, err)
		}
		last = got
	}
	if _, err := of("GOROOT=" + home); err == nil {
		t.Error("a go command with another GOROOT has a fingerprint")
	}
	put(home, ".config/go/env", "GOFLAGS=-mod=mod\nGOROOT=/elsewhere\n")
	if _, err := of(); err == nil {
		t.Error("a go command whose settings name another GOROOT has a fingerprint")
	}
	put(home, ".config/go/env", "")
	if err := os.RemoveAll(filepath.Join(root, "pkg")); err != nil {
		t.Fatal(err)
	}
	if _, err := of(); err == nil {
		t.Error("a go command without tools has a fingerprint")
	}
}
