package build

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/download"
	"github.com/mabuild/mabuild/manifest/platform"
)

// six are the platforms of released.
var six = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm", Variant: "v7"},
	{OS: "linux", Architecture: "arm64"},
	{OS: "linux", Architecture: "ppc64le"},
	{OS: "linux", Architecture: "riscv64"},
	{OS: "linux", Architecture: "s390x"},
}

// released returns a program for each of six, by architecture.
func released(t *testing.T) map[string][]byte {
	t.Helper()
	releasedOnce.Do(func() { releasedPrograms = compileSix(t) })
	if len(releasedPrograms) != len(six) {
		t.Fatal("the programs were not compiled")
	}
	return releasedPrograms
}

var (
	releasedOnce     sync.Once
	releasedPrograms map[string][]byte
)

// compileSix compiles them.
func compileSix(t *testing.T) map[string][]byte {
	t.Helper()
	dir, programs := program(t, "package main\n\nfunc main() {}\n"), map[string][]byte{}
	for _, p := range six {
		out := filepath.Join(t.TempDir(), "app")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", out, ".")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOOS=linux", "GOARCH="+p.Architecture, "CGO_ENABLED=0", "GOARM=7")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		programs[p.Architecture] = content
	}
	return programs
}

// packed returns a file in a form, such as tar.gz, which has the program as app-1/bin/app of
// mode 0644 and a file for it. raw, gz, xz and zst have the program alone.
func packed(t *testing.T, form string, program []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{"app-1/app.yml": []byte("a: 1\n"), "app-1/bin/app": program}
	form, compressed := strings.TrimPrefix(form, "tar."), strings.HasPrefix(form, "tar.")
	switch {
	case form == "zip":
		w := zip.NewWriter(&b)
		for name, content := range files {
			f, err := w.Create(name)
			check(err)
			_, err = f.Write(content)
			check(err)
		}
		check(w.Close())
		return b.Bytes()
	case form == "tar" || compressed:
		w := tar.NewWriter(&b)
		for name, content := range files {
			check(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}))
			_, err := w.Write(content)
			check(err)
		}
		check(w.Close())
	default:
		b.Write(program)
	}
	content := bytes.Clone(b.Bytes())
	b.Reset()
	var w io.WriteCloser
	var err error
	switch form {
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
	default:
		return content
	}
	check(err)
	_, err = w.Write(content)
	check(err)
	check(w.Close())
	return b.Bytes()
}

// The image of a program does not depend on the form in which the program is released, and an
// archive is not unpacked again while nothing changes.
func TestPrebuiltForms(t *testing.T) {
	t.Parallel()
	programs := released(t)
	cache := t.TempDir()
	build := func(s Spec, cache string) (*Result, string) {
		files := download.Client{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
		b := &Builder{Work: t.TempDir(), Cache: cache, Download: files.Get}
		r, err := b.Build(t.Context(), s, Hooks{})
		if err != nil {
			t.Fatalf("%+v: %v", s.Program, err)
		}
		return r, filepath.Join(b.Work, "unpacked")
	}
	want := map[bool]v1.Hash{} // with further files, and without
	for _, form := range []string{"raw", "gz", "xz", "zst", "tar", "tar.gz", "tar.xz", "tar.zst", "zip"} {
		dir := t.TempDir()
		for arch, content := range programs {
			if err := os.WriteFile(filepath.Join(dir, "app-"+arch), packed(t, form, content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		archived := form == "zip" || strings.HasPrefix(form, "tar")
		of := Prebuilt{Path: "app-{{.Arch}}"}
		if archived {
			of.Program, of.Files = "**/app", map[string]string{"*/app.yml": "/etc/app.yml"}
		}
		s := Spec{Program: of, Name: "app", Dir: dir, Platforms: six, Base: Scratch}
		for _, cache := range []string{"", cache} {
			r, _ := build(s, cache)
			digest, err := r.Index.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if first, ok := want[archived]; ok && first != digest {
				t.Errorf("%s: %s, want %s", form, digest, first)
			}
			want[archived] = digest
			if cache == "" {
				if err := validate.Index(r.Index); err != nil {
					t.Errorf("%s: %v", form, err)
				}
			}
			if info, err := r.Images[0].BuildInfo(t.Context()); err != nil || info == nil || r.Images[0].Content == "" {
				t.Errorf("%s: build information %v, %v", form, info, err)
			}
		}
		s.Program = fromServer(t, dir, of)
		r, _ := build(s, "")
		if digest, err := r.Index.Digest(); err != nil || digest != want[archived] {
			t.Errorf("%s from a server: %s, %v; want %s", form, digest, err, want[archived])
		}
		s.Program = of
		if _, unpacked := build(s, cache); exists(unpacked) {
			t.Errorf("%s: an unchanged archive was unpacked", form)
		}
	}
	if want[true] == want[false] {
		t.Error("the further files are missing")
	}
}

// fromServer returns of with a download of each file of dir that of.Path names.
func fromServer(t *testing.T, dir string, of Prebuilt) Prebuilt {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	of.Path, of.Downloads, of.SHA256 = "", map[string]string{}, map[string]string{}
	for _, p := range six {
		name := "app-" + p.Architecture
		e, err := layerfile.File("", 0, filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		of.Downloads[platform.Key(p)], of.SHA256[platform.Key(p)] = server.URL+"/"+name, e.Content
	}
	return of
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// An archive with the wrong content is an error that names platform and file.
func TestPrebuiltBadArchives(t *testing.T) {
	programs := released(t)
	for name, c := range map[string]struct {
		content []byte
		of      Prebuilt
		want    string
	}{
		"another platform": {packed(t, "tar.gz", programs["s390x"]), Prebuilt{Program: "*/bin/app"}, "not an executable of the platform: it is for s390x, not for arm64"},
		"empty":            {packed(t, "tar.gz", nil), Prebuilt{Program: "*/bin/app"}, "the program in it is empty"},
		"no program":       {packed(t, "zip", programs["arm64"]), Prebuilt{Program: "*/app"}, `nothing in it matches "*/app"`},
		"several":          {packed(t, "tar", programs["arm64"]), Prebuilt{Program: "**"}, `"**" matches 2 files: `},
		"none chosen":      {packed(t, "tar", programs["arm64"]), Prebuilt{}, "it has 2 files, and none is chosen: "},
		"no archive":       {programs["arm64"], Prebuilt{Program: "*/app"}, `it is a single file, so nothing in it matches "*/app"`},
		"a login page":     {[]byte("<!DOCTYPE html>\n<title>Sign in</title>"), Prebuilt{Program: "*/app"}, `it is a single file, so nothing in it matches "*/app"`},
		"cut":              {packed(t, "tar.gz", programs["arm64"])[:10000], Prebuilt{Program: "*/bin/app"}, "it ends early: unexpected EOF"},
		"no file":          {packed(t, "tar.gz", programs["arm64"]), Prebuilt{Program: "*/bin/app", Files: map[string]string{"*/none": "/none"}}, `nothing in it matches "*/none"`},
		"a bad pattern":    {packed(t, "tar.gz", programs["arm64"]), Prebuilt{Program: "[a"}, `"[a" is not a valid pattern`},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app.file"), c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		c.of.Path = "app.file"
		b := &Builder{Work: t.TempDir(), Cache: t.TempDir()}
		_, err := b.Resolve(t.Context(), Spec{Program: c.of, Name: "app", Dir: dir, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}})
		if want := "prebuilt: linux/arm64: " + filepath.Join(dir, "app.file") + ": " + c.want; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
	}
}
