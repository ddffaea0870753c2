//go:build !windows

package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// TestArchiveBytes: the same images under the same names are the same bytes, in
// whatever order they came, and nothing that is named no more stays.
func TestArchiveBytes(t *testing.T) {
	a, b, gone := makeIndex(t, "linux/amd64", "linux/arm/v7"), makeImage(t, "linux/386", 100), makeImage(t, "linux/386", 100)
	var files [2][]byte
	for i, order := range [][]struct {
		ref string
		c   manifest.Content
	}{{{"a:1", a}, {"b:1", b}}, {{"b:1", gone}, {"b:1", b}, {"a:1", a}, {"a:1", a}}} {
		archive := &Archive{File: filepath.Join(t.TempDir(), "a.tar")}
		for _, one := range order {
			put(t, archive, one.ref, one.c)
		}
		var err error
		if files[i], err = os.ReadFile(archive.File); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the bytes differ")
	}
}

// TestArchiveWriters: several programs of one run write to one archive.
func TestArchiveWriters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.tar")
	var wg sync.WaitGroup
	for _, ref := range []string{"a:1", "b:1", "c:1", "d:1"} {
		wg.Go(func() {
			if err := (&Archive{File: file}).Put(t.Context(), ref, makeImage(t, "linux/amd64", 1000)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, ref := range []string{"a:1", "b:1", "c:1", "d:1"} {
		if _, err := (&Archive{File: file}).Get(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
}

// valueImage cannot be a key of a map, as an image of package build cannot.
type valueImage struct {
	v1.Image
	_ []string
}

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
		want string // platform, or part of the error
	}{
		{"the host's", "app:v1", idx, ocispec.Platform{}, host},
		{"chosen", "ghcr.io/acme/app:v1", idx, s390x, "linux/s390x"},
		{"no index", "app", makeImage(t, "linux/s390x", 10), ocispec.Platform{}, "linux/s390x"},
		{"image that is a value", "app", valueImage{Image: makeImage(t, host, 10)}, ocispec.Platform{}, host},
		{"not in the index", "app:v1", makeIndex(t, "linux/mips64le", "linux/s390x"), ocispec.Platform{}, "no " + host + " among linux/mips64le, linux/s390x"},
		{"not the image's", "app:v1", makeImage(t, "linux/386", 10), s390x, "no linux/s390x: the image is for linux/386"},
		{"no tag", "App:v1", idx, ocispec.Platform{}, "can only contain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.tar")
			err := (&DockerArchive{File: file, Platform: test.p}).Put(t.Context(), test.ref, test.c)
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
			if err != nil || platform.Key(platform.OfConfig(config)) != test.want || validate.Image(img) != nil {
				t.Errorf("%v, %v, %v; want %s", config.Architecture, err, validate.Image(img), test.want)
			}
		})
	}
}

// fake writes a script that stands for a tool.
func fake(t *testing.T, script string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

func TestDocker(t *testing.T) {
	file := filepath.Join(t.TempDir(), "loaded")
	idx := makeIndex(t, "linux/"+runtime.GOARCH, "linux/s390x")
	docker := &Docker{Command: fake(t, `test "$1" = load && cat > `+file+"\n")}
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
	if err := (&Docker{Command: fake(t, "exit 0\n")}).Available(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestContainerd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "imported")
	idx := makeIndex(t, "linux/amd64", "linux/s390x")
	put(t, &Containerd{Namespace: "k8s.io", Command: fake(t, `echo "$@" > `+dir+`/args; cat > `+file+"\n")}, "app:v1", idx)
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || string(args) != "--namespace k8s.io images import --all-platforms -\n" {
		t.Errorf("%q, %v", args, err)
	}
	c, err := (&Archive{File: file}).Get(t.Context(), "v1")
	if err != nil || digestOf(t, c) != digestOf(t, idx) {
		t.Errorf("%v, %v", c, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(raw, []byte(`"io.containerd.image.name": "docker.io/library/app:v1"`)) {
		t.Errorf("the image has not containerd's name: %v", err)
	}
}

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
		"reads nothing":   {fake(t, "echo broken >&2; exit 1\n"), img, "exit status 1: broken"},
		"floods":          {fake(t, "cat >/dev/null; yes | head -c 1000000; exit 1\n"), img, "exit status 1: y"},
		"image is broken": {fake(t, "cat >/dev/null\n"), brokenImage{img, func() (io.ReadCloser, error) { return nil, lost }}, "connection lost"},
	} {
		for form, sink := range map[string]manifest.Sink{"docker": &Docker{Command: test.command}, "containerd": &Containerd{Command: test.command}} {
			if form == "docker" && name == "image is broken" {
				continue // the tarball package reads layers by another way
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

// TestToolHangs: a tool that does not end ends with us.
func TestToolHangs(t *testing.T) {
	img := makeImage(t, "linux/amd64", 1<<20)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("interrupted"))
	defer cancel()
	start := time.Now()
	err := (&Docker{Command: fake(t, "exec sleep 60\n")}).Put(ctx, "app:v1", img)
	if err == nil || err.Error() != "interrupted" || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}
