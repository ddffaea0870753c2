package build

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
)

// prebuilt returns the Spec of a program of Go in the directory dist of a new directory.
func prebuilt(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "program"), ".")
	cmd.Dir, cmd.Env = program(t, "package main\n\nfunc main() {}\n"), append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"amd64", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), append(content, name...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Spec{Program: &Prebuilt{Path: "{{.Arch}}"}, Name: "app", Dir: dir, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}, Base: Scratch}
}

// A layer in the cache that is damaged is written again from the file.
func TestPrebuiltHealsTheCache(t *testing.T) {
	s := prebuilt(t)
	cache := t.TempDir()
	build := func() v1.Image {
		b := &Builder{Work: t.TempDir(), Cache: cache}
		r, err := b.Build(t.Context(), s, Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Images[0]
	}
	want, err := build().Digest()
	if err != nil {
		t.Fatal(err)
	}
	again := build()
	blobs, err := filepath.Glob(filepath.Join(cache, "*", "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		if blobs, err = filepath.Glob(filepath.Join(cache, "blobs", "sha256", "*")); err != nil || len(blobs) == 0 {
			t.Fatalf("no layer is in the cache: %v", err)
		}
	}
	for _, blob := range blobs {
		if err := os.Chmod(blob, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blob, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := validate.Image(again); err != nil {
		t.Error(err)
	}
	if got, err := again.Digest(); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// A file that changes after it was read, and before its layer is written, fails the build.
func TestPrebuiltChangesDuringTheBuild(t *testing.T) {
	s := prebuilt(t)
	b := &Builder{}
	b.init(t.Context())
	m := (*s.Program.(*Prebuilt)).maker(b, s).(*prebuiltMaker)
	if err := m.check(t.Context(), s.Platforms); err != nil {
		t.Fatal(err)
	}
	program, err := m.program(s.Platforms[0])
	if err != nil || program.info == nil {
		t.Fatalf("%+v, %v", program, err)
	}
	if err := os.Rename(filepath.Join(s.Dir, "other"), filepath.Join(s.Dir, "amd64")); err != nil {
		t.Fatal(err)
	}
	layer, err := newLayers(t, nil).Layer([]layerfile.Entry{program.entry})
	if err == nil {
		var r io.ReadCloser
		if r, err = layer.Compressed(); err == nil {
			_, err = io.Copy(io.Discard, r)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("got %v", err)
	}
}

// A prebuilt program that is run from its tree must be in it, whatever the path looks like.
func TestPrebuiltStaysInItsTree(t *testing.T) {
	s := prebuilt(t)
	tree := filepath.Join(s.Dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, ".git"), 0o750); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "../amd64", "proc": "/proc/self/exe"} {
		if err := os.Symlink(to, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"../amd64": "is outside the source tree", "link": "is outside the source tree", "proc": "is outside the source tree",
		filepath.Join(s.Dir, "amd64"): "is outside the source tree", ".git": "is inside .git", ".": "is not a regular file", "none": "does not exist",
	} {
		s := s
		s.Dir, s.Name, s.Program = tree, "app", Prebuilt{Path: path, Within: tree}
		b := &Builder{Work: t.TempDir()}
		if _, err := b.Resolve(t.Context(), s); err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
