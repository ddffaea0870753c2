package gocache

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// entry returns the files of an action and its output, by name.
func entry(content string) map[string]string {
	out := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	id := fmt.Sprintf("%x", sha256.Sum256([]byte("action "+content)))
	return map[string]string{
		id[:2] + "/" + id + "-a":   fmt.Sprintf("v1 %s %s %20d %20d\n", id, out, len(content), 1),
		out[:2] + "/" + out + "-d": content,
	}
}

// archive returns a tar archive of files, with a header that change may change.
func archive(t *testing.T, files map[string]string, change func(*tar.Header)) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		h := &tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, Typeflag: tar.TypeReg}
		if change != nil {
			change(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// files lists the files below a directory.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		list = append(list, strings.TrimPrefix(filepath.ToSlash(file), filepath.ToSlash(dir)+"/"))
	}
	return list
}

// What was used arrives as it was, and what was not used stays behind. Unpacked entries count
// as unused until the go command touches them.
func TestOnlyWhatWasUsedIsCarried(t *testing.T) {
	from, to, now := t.TempDir(), t.TempDir(), time.Now()
	want := entry("used")
	for content, at := range map[string]time.Time{"used": now, "old": now.Add(-2 * time.Hour)} {
		for name, text := range entry(content) {
			file := filepath.Join(from, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644), os.Chtimes(file, at, at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	used, err := Used(from, now)
	if err != nil || len(used) != 2 {
		t.Fatalf("%v, %v", used, err)
	}
	var packed bytes.Buffer
	if err := Pack(&packed, from, used); err != nil {
		t.Fatal(err)
	}
	if !Empty(to) {
		t.Error("a new directory has entries")
	}
	if got, err := Unpack(&packed, to, now); err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if left := files(t, to); len(left) != 2 || Empty(to) {
		t.Errorf("%q", left)
	}
	if used, err := Used(to, now); err != nil || len(used) != 0 {
		t.Errorf("unpacked entries count as used: %v, %v", used, err)
	}
}

// An archive with anything that is not an entry adds nothing and writes nowhere else.
func TestHostileArchives(t *testing.T) {
	good, other := entry("good"), entry("other")
	var action, output string
	for name := range good {
		if strings.HasSuffix(name, "-a") {
			action = name
		} else {
			output = name
		}
	}
	with := func(name, text string) map[string]string {
		files := map[string]string{name: text}
		for name, text := range other {
			files[name] = text
		}
		return files
	}
	for what, c := range map[string]struct {
		files  map[string]string
		change func(*tar.Header)
		cut    int // bytes at the end that are missing
		more   string
	}{
		"a path that leaves":     {files: with("../"+action[3:], good[action])},
		"an absolute path":       {files: with("/etc/passwd", "x")},
		"another directory":      {files: with("zz"+action[2:], good[action])},
		"a wrong directory":      {files: with("00/"+"11"+action[5:], good[action])},
		"settings of go":         {files: with("trim.txt", "1")},
		"another output":         {files: with(output, "wrong")},
		"another action":         {files: with(action, strings.Replace(good[action], "v1 ", "v1 0", 1))},
		"the action of another":  {files: with(action, strings.Replace(good[action], action[3:67], strings.Repeat("0", 64), 1))},
		"a long action":          {files: with(action, good[action]+strings.Repeat(" ", 1000))},
		"a link":                 {files: with(output, ""), change: func(h *tar.Header) { link(h, output, tar.TypeSymlink) }},
		"a hard link":            {files: with(output, ""), change: func(h *tar.Header) { link(h, output, tar.TypeLink) }},
		"a directory":            {files: with(output, ""), change: func(h *tar.Header) { link(h, output, tar.TypeDir) }},
		"a device":               {files: with(output, ""), change: func(h *tar.Header) { link(h, output, tar.TypeChar) }},
		"a name twice":           {files: with(output, good[output])},
		"an archive that is cut": {files: good, cut: 1600},
		"more than an archive":   {files: good, more: strings.Repeat("x", maxEnd)},
	} {
		t.Run(what, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "cache")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			b := archive(t, c.files, c.change)
			b.Truncate(b.Len() - c.cut)
			b.WriteString(c.more)
			if what == "a name twice" {
				b = bytes.NewBuffer(slices.Concat(b.Bytes()[:b.Len()-1024], b.Bytes()))
			}
			if got, err := Unpack(b, dir, time.Now()); err == nil {
				t.Errorf("%v was unpacked", got)
			}
			if left := append(files(t, dir), files(t, top)...); len(left) != 0 {
				t.Errorf("%q is there", left)
			}
		})
	}
	// The digest of the content is known at its end.
	dir := t.TempDir()
	broken := io.MultiReader(archive(t, good, nil), &failing{})
	if _, err := Unpack(broken, dir, time.Now()); !errors.Is(err, io.ErrUnexpectedEOF) || len(files(t, dir)) != 0 {
		t.Errorf("%v, %q", err, files(t, dir))
	}
}

func link(h *tar.Header, name string, kind byte) {
	if h.Name == name {
		h.Typeflag, h.Linkname, h.Size = kind, "/etc/passwd", 0
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A file that is too large is refused before it is read.
func TestLargeFilesAreRefused(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name := range entry("x") {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: maxFile + 1, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		break
	}
	dir := t.TempDir()
	if _, err := Unpack(&b, dir, time.Now()); err == nil || !strings.Contains(err.Error(), "too large") || len(files(t, dir)) != 0 {
		t.Errorf("%v", err)
	}
}

// No archive makes Unpack write anything but entries, or panic.
func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range entry("content") {
		_ = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		list, err := Unpack(bytes.NewReader(data), dir, time.Now())
		if left := files(t, dir); err != nil && len(left) > 0 || err == nil && len(left) != len(list) {
			t.Errorf("%v, %q, %v", list, left, err)
		}
	})
}
