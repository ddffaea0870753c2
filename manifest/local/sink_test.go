//go:build !windows

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// An archive with the same images under the same names has the same bytes, in whatever
// order they were put. Content without a name is removed.
func TestArchiveBytes(t *testing.T) {
	a, b, gone := makeIndex(t, "linux/amd64", "linux/arm/v7"), makeImage(t, "linux/386", 100), makeImage(t, "linux/386", 100)
	var files [2][]byte
	for i, order := range [][]struct {
		ref string
		c   manifest.Content
	}{{{"a:1", a}, {"b:1", b}}, {{"b:1", gone}, {"b:1", b}, {"a:1", a}, {"a:1", a}}} {
		archive := &ociArchive{File: filepath.Join(t.TempDir(), "a.tar")}
		for _, one := range order {
			put(t, archive, one.ref, one.c)
		}
		var err error
		if files[i], err = os.ReadFile(archive.File); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two archives with the same images differ")
	}
}

// Several goroutines can write to one archive.
func TestArchiveWriters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.tar")
	var wg sync.WaitGroup
	for _, ref := range []string{"a:1", "b:1", "c:1", "d:1"} {
		wg.Go(func() {
			if err := (&ociArchive{File: file}).Put(t.Context(), ref, makeImage(t, "linux/amd64", 1000)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, ref := range []string{"a:1", "b:1", "c:1", "d:1"} {
		if _, err := (&ociArchive{File: file}).Get(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
}

// valueImage cannot be the key of a map, like the images of package build.
type valueImage struct {
	v1.Image
	_ []string
}

// A Docker archive has one image: that of the host, or of the platform that was chosen.
func TestDockerArchive(t *testing.T) {
	host := "linux/" + runtime.GOARCH
	s390x, err := platform.Parse("linux/s390x")
	if err != nil {
		t.Fatal(err)
	}
	idx := makeIndex(t, host, "linux/s390x")
	for _, test := range []struct {
		name string
		ref  string
		c    manifest.Content
		p    ocispec.Platform
		want string // the platform, or a part of the error
	}{
		{"of the host", "app:v1", idx, ocispec.Platform{}, host},
		{"chosen", "ghcr.io/acme/app:v1", idx, s390x, "linux/s390x"},
		{"an image", "app", makeImage(t, "linux/s390x", 10), ocispec.Platform{}, "linux/s390x"},
		{"an image that cannot be a key", "app", valueImage{Image: makeImage(t, host, 10)}, ocispec.Platform{}, host},
		{"a platform that is not in the index", "app:v1", makeIndex(t, "linux/mips64le", "linux/s390x"), ocispec.Platform{}, "no image for " + host + ", only for linux/mips64le, linux/s390x"},
		{"another platform than the image's", "app:v1", makeImage(t, "linux/386", 10), s390x, "no image for linux/s390x, only for linux/386"},
		{"an invalid tag", "App:v1", idx, ocispec.Platform{}, "can only contain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.tar")
			err := (&dockerArchive{File: file, Platform: test.p}).Put(t.Context(), test.ref, test.c)
			if err != nil {
				if _, there := os.Stat(file); there == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %q; file: %v", err, test.want, there)
				}
				return
			}
			tag, err := name.NewTag(test.ref)
			if err != nil {
				t.Fatal(err)
			}
			img, err := tarball.ImageFromPath(file, &tag)
			if err != nil {
				t.Fatal(err)
			}
			config, err := img.ConfigFile()
			if err != nil || platform.Key(platform.FromV1(config.Platform())) != test.want || validate.Image(img) != nil {
				t.Errorf("%v, %v, %v; want %s", config.Architecture, err, validate.Image(img), test.want)
			}
		})
	}
}

// fake writes a script that replaces a tool, and returns its command.
func fake(t *testing.T, script string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

// The archive for docker load has the image of the host's platform.
func TestDocker(t *testing.T) {
	file := filepath.Join(t.TempDir(), "loaded")
	idx := makeIndex(t, "linux/"+runtime.GOARCH, "linux/s390x")
	docker := &dockerDaemon{Command: fake(t, `test "$1" = load && cat > `+file+"\n")}
	put(t, docker, "app:v1", idx)
	tag, err := name.NewTag("app:v1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
}

// If a daemon does not answer, the error has the text of its command, and a hint.
func TestAvailable(t *testing.T) {
	for form, available := range map[string]func(command []string) error{
		"docker": func(command []string) error {
			_, err := (&dockerDaemon{Command: command}).available(t.Context())
			return err
		},
		"containerd": func(command []string) error { return (&containerd{Command: command}).available(t.Context()) },
	} {
		if err := available(fake(t, "exit 0\n")); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		err := available(fake(t, "echo nobody is there >&2; exit 1\n"))
		if err == nil || !strings.HasSuffix(err.Error(), ": nobody is there") || !strings.Contains(hintOf(err), "archive:FILE") {
			t.Errorf("%s: %v, hint %q", form, err, hintOf(err))
		}
	}
}

// An archive can be written to an empty file, through a link, to a pipe and to a writer.
// The link and the pipe are kept.
func TestArchiveInto(t *testing.T) {
	img, dir := makeImage(t, "linux/amd64", 1000), t.TempDir()
	empty, link, pipe := filepath.Join(dir, "empty"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.Symlink("empty", link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{FormArchive, FormDockerArchive} {
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		source, err := Place{Form: form, Path: empty}.Source()
		if err == nil {
			_, err = source.Resolve(t.Context(), "")
		}
		if !errors.Is(err, manifest.ErrNotFound) || !strings.Contains(err.Error(), "the file is empty") {
			t.Errorf("%s: an empty file: %v", form, err)
		}
		var out bytes.Buffer
		sink, err := Place{Form: form, Path: Stdout, Out: &out}.Sink()
		if err != nil {
			t.Fatal(err)
		}
		put(t, sink, "app:v1", img)
		for _, path := range []string{empty, link, pipe} {
			sink, err := Place{Form: form, Path: path}.Sink()
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan []byte, 1)
			if path == pipe {
				go func() {
					b, _ := os.ReadFile(pipe)
					read <- b
				}()
			}
			put(t, sink, "app:v1", img)
			if path != pipe {
				b, _ := os.ReadFile(empty)
				read <- b
			}
			if got := <-read; !bytes.Equal(got, out.Bytes()) || len(got) < 1000 {
				t.Errorf("%s: %s has %d bytes, and standard output %d", form, path, len(got), out.Len())
			}
		}
		if err := os.Truncate(empty, 0); err != nil {
			t.Fatal(err)
		}
	}
	for path, kind := range map[string]os.FileMode{link: os.ModeSymlink, pipe: os.ModeNamedPipe} {
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != kind {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	for _, p := range []Place{{Form: FormArchive, Path: Stdout}, {Form: FormDockerArchive, Path: Stdout}} {
		if _, err := p.Sink(); hintOf(err) == "" {
			t.Errorf("%s without a writer: %v", p, err)
		}
		if _, err := p.Source(); hintOf(err) == "" {
			t.Errorf("%s as a source: %v", p, err)
		}
	}
}

// Check reports why a place cannot be written, without writing.
func TestPlaceCheck(t *testing.T) {
	dir := t.TempDir()
	file, layout, garbage := filepath.Join(dir, "empty"), filepath.Join(dir, "layout"), filepath.Join(dir, "garbage")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.WriteFile(garbage, []byte("hello"), 0o600)); err != nil {
		t.Fatal(err)
	}
	put(t, &ociLayout{Dir: layout}, "app:v1", makeImage(t, "linux/amd64", 10))
	for text, wrong := range map[string]string{
		"oci-archive:" + file: "", "docker-archive:" + garbage: "", "oci:" + layout: "", "oci:" + filepath.Join(dir, "new"): "", "oci-archive:-": "",
		"oci-archive:" + filepath.Join(dir, "no", "f"): "does not exist", "docker-archive:" + dir: "is a directory",
		"oci-archive:" + garbage: "not a tar file", "oci:" + file: "is not a directory", "oci:" + dir: "is not empty and not an OCI layout",
	} {
		p, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Check(t.Context())
		if (err == nil) != (wrong == "") || err != nil && (!strings.Contains(err.Error(), wrong) || hintOf(err) == "") {
			t.Errorf("%s: %v, hint %q; want %q", text, err, hintOf(err), wrong)
		}
	}
}

// The archive for containerd has all platforms and containerd's name.
func TestContainerd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "imported")
	idx := makeIndex(t, "linux/amd64", "linux/s390x")
	put(t, &containerd{Namespace: "k8s.io", Command: fake(t, `echo "$@" > `+dir+`/args; cat > `+file+"\n")}, "app:v1", idx)
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || string(args) != "--namespace k8s.io images import --all-platforms -\n" {
		t.Errorf("%q, %v", args, err)
	}
	c, err := (&ociArchive{File: file}).Get(t.Context(), "v1")
	if err != nil || digestOf(t, c) != digestOf(t, idx) {
		t.Errorf("%v, %v", c, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(raw, []byte(`"io.containerd.image.name": "docker.io/library/app:v1"`)) {
		t.Errorf("the image does not have containerd's name: %v", err)
	}
}

// The error of a failed tool has its last line, shortened and without control characters.
func TestTools(t *testing.T) {
	img := makeImage(t, "linux/amd64", 100_000)
	lost := errors.New("connection lost")
	for name, test := range map[string]struct {
		command []string
		c       manifest.Content
		want    string
	}{
		"missing":         {[]string{"mabuild-no-such-tool"}, img, "is not installed"},
		"complains":       {fake(t, "cat >/dev/null; echo one >&2; printf 'no \\033[31mspace\\n' >&2; exit 3\n"), img, "exit status 3: no [31mspace"},
		"does not read":   {fake(t, "echo broken >&2; exit 1\n"), img, "exit status 1: broken"},
		"stops reading":   {fake(t, "exec 0<&-; sleep 0.2; echo broken >&2; exit 1\n"), img, "exit status 1: broken"},
		"floods":          {fake(t, "cat >/dev/null; yes | head -c 1000000; exit 1\n"), img, "exit status 1: y"},
		"image is broken": {fake(t, "cat >/dev/null\n"), brokenImage{img, func() (io.ReadCloser, error) { return nil, lost }}, "connection lost"},
	} {
		for form, sink := range map[string]manifest.Sink{"docker": &dockerDaemon{Command: test.command}, "containerd": &containerd{Command: test.command}} {
			if form == "docker" && name == "image is broken" {
				continue // the tarball package does not read layers with Compressed
			}
			err := sink.Put(t.Context(), "app:v1", test.c)
			if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 800 {
				t.Errorf("%s, %s: %v", form, name, err)
			}
			if (hintOf(err) != "") != (name == "missing") {
				t.Errorf("%s, %s: hint %q", form, name, hintOf(err))
			}
		}
	}
}

// A tool that hangs is killed when the context ends.
func TestToolHangs(t *testing.T) {
	img := makeImage(t, "linux/amd64", 1<<20)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("interrupted"))
	defer cancel()
	start := time.Now()
	err := (&dockerDaemon{Command: fake(t, "exec sleep 600\n")}).Put(ctx, "app:v1", img)
	if err == nil || err.Error() != "interrupted" || time.Since(start) > time.Minute {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

// Processes that write to one archive at the same time lose no image, and one that fails
// leaves no file.
func TestArchiveOfSeveralProcesses(t *testing.T) {
	const variable = "MABUILD_TEST_ARCHIVE"
	for n := range 8 { // in a child process
		if slices.Contains(os.Environ(), fmt.Sprint(variable, "=tag", n)) {
			put(t, &ociArchive{File: "a.tar"}, fmt.Sprint("tag", n), makeImage(t, "linux/amd64", 1000))
			return
		}
	}
	dir := t.TempDir()
	var group errgroup.Group
	for n := range 8 {
		group.Go(func() error {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), fmt.Sprint(variable, "=tag", n))
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range 8 {
		if _, err := (&ociArchive{File: filepath.Join(dir, "a.tar")}).Resolve(t.Context(), fmt.Sprint("tag", n)); err != nil {
			t.Error(err)
		}
	}
	none := filepath.Join(t.TempDir(), "b.tar")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&ociArchive{File: none}).Put(ctx, "v1", makeImage(t, "linux/amd64", 1000)); err == nil {
		t.Error("Put succeeds with an ended context")
	}
	empty, err := manifest.Uninterpreted(v1.Descriptor{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&ociArchive{File: none}).Put(t.Context(), "", empty); err == nil {
		t.Error("Put accepts content without bytes")
	}
	if _, err := os.Lstat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was left: %v", err)
	}
}
