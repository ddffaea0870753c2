//go:build !windows

package outfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func hello(w io.Writer) error {
	_, err := io.WriteString(w, "hello")
	return err
}

func want(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("%s holds %q, %v; want %q", path, b, err, text)
	}
}

// A link is kept: its target is written, even if that does not exist yet.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	for _, there := range []bool{true, false} {
		target, one, two := filepath.Join(dir, "target"), filepath.Join(dir, "one"), filepath.Join(dir, "two")
		if there {
			if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Symlink("target", one), os.Symlink(one, two)); err != nil {
			t.Fatal(err)
		}
		if err := Write(two, hello); err != nil {
			t.Fatal(err)
		}
		want(t, target, "hello")
		for _, link := range []string{one, two} {
			if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
				t.Errorf("%s was a link before: %v, %v", link, info, err)
			}
		}
		for _, file := range []string{target, one, two} {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A pipe is kept and written to, by its name or by a link to a file descriptor.
func TestStreams(t *testing.T) {
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink(fifo, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link} {
		read := make(chan string)
		go func() {
			b, _ := os.ReadFile(fifo)
			read <- string(b)
		}()
		if err := Write(path, hello); err != nil {
			t.Fatal(err)
		}
		if got := <-read; got != "hello" {
			t.Errorf("%s: %q came out", path, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Type() != os.ModeNamedPipe || !Streams(path) {
			t.Errorf("%s was a pipe before: %v, %v", path, info, err)
		}
	}
}

// A file that cannot be written stays unchanged, no other file is left, and the error has
// the name that the caller gave.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	file, broken := filepath.Join(dir, "file"), errors.New("broken")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Write(file, func(w io.Writer) error { return errors.Join(hello(w), broken) })
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	want(t, file, "old")
	for path, words := range map[string]string{
		filepath.Join(dir, "no", "f"): "does not exist",
		filepath.Join(file, "f"):      "is not a directory",
		dir:                           "is a directory",
	} {
		if err := Check(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), words) {
			t.Errorf("check of %s: %v", path, err)
		}
		if err := Write(path, hello); err == nil || !strings.Contains(err.Error(), path+":") || strings.Contains(err.Error(), Temp) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := errors.Join(Check(file), Check(filepath.Join(dir, "new"))); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, Temp+"*")); len(left) > 0 {
		t.Errorf("leftover files: %v", left)
	}
}
