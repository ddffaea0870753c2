//go:build !windows

package filelist

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The error for a named pipe in a copied directory has the path of the pipe.
func TestPipeIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "web"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "web", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Entries(dir, []File{{From: "web", To: "/srv"}}, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "web/pipe is a named pipe") {
		t.Error(err)
	}
}
