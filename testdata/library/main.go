// Stranger is a program of another module that uses all of the library: it builds
// itself for two platforms, puts the image into a layout, copies a part of it to an
// archive and prints what that runs on.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, work string) error {
	platforms, err := platform.ParseList([]string{"linux/arm64", "linux/amd64"})
	if err != nil {
		return err
	}
	b := build.Builder{Bases: new(registry.Client), Go: new(crosscompile.Go), Work: work}
	result, err := b.Build(ctx, build.Spec{Program: build.GoPackage{Package: "."}, Name: "stranger", Platforms: platforms}, build.Hooks{})
	if err != nil {
		return err
	}
	layout := local.Layout(filepath.Join(work, "layout"))
	if err := layout.Put(ctx, "stranger:v1", result.Index); err != nil {
		return err
	}
	archive := local.Archive(filepath.Join(work, "stranger.tar"))
	if _, err := manifest.Copy(ctx, archive, "stranger:v1", layout, "stranger:v1", platforms[1]); err != nil {
		return err
	}
	report, err := manifest.Inspect(ctx, archive, "stranger:v1", manifest.InspectOptions{})
	if err != nil {
		return err
	}
	for _, i := range report.Platforms {
		fmt.Println(i.Platform)
	}
	return nil
}
