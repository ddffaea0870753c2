// Run pulls the program of an image for this host from a registry and runs it. It
// shows how to read images with the library.
//
//	go run ./examples/run 127.0.0.1:5000/hello:latest --version
package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: run IMAGE [ARGUMENT…]")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ref string, args []string) error {
	content, err := new(registry.Client).Get(ctx, ref)
	if err != nil {
		return err
	}
	image, err := choose(content, ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := extract(image, dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// choose returns the image that runs on the platform want.
func choose(content manifest.Content, want ocispec.Platform) (v1.Image, error) {
	entries, err := manifest.Identified(content)
	if err != nil {
		return nil, err
	}
	var images []manifest.Entry
	var have []ocispec.Platform
	for _, e := range entries {
		if e.Kind == manifest.KindImage {
			images, have = append(images, e), append(have, e.Platform)
		}
	}
	at, ok := platform.Choose(want, have)
	if !ok {
		return nil, fmt.Errorf("no %s; it has %s", platform.Key(want), platform.Keys(have))
	}
	return images[at].Image()
}

// extract writes the image's entrypoint, which is in its last layer, to dir.
func extract(image v1.Image, dir string) (program string, err error) {
	config, err := image.ConfigFile()
	if err != nil {
		return "", err
	}
	layers, err := image.Layers()
	if err != nil {
		return "", err
	}
	if len(config.Config.Entrypoint) == 0 || len(layers) == 0 {
		return "", errors.New("the image has no program")
	}
	entrypoint := config.Config.Entrypoint[0]
	content, err := layers[len(layers)-1].Uncompressed()
	if err != nil {
		return "", err
	}
	defer content.Close()
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if err != nil {
			return "", fmt.Errorf("%s: %w", entrypoint, err)
		}
		if header.Name != strings.TrimPrefix(entrypoint, "/") {
			continue
		}
		program = filepath.Join(dir, "program")
		f, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o700)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(f, archive)
		return program, errors.Join(err, f.Close())
	}
}
