// Library builds a program, pushes it and inspects it, like mabuild push and
// inspect. It shows how to use the packages crosscompile, build, manifest and
// manifest/registry together.
//
//	go run ./examples/library ./examples/hello 127.0.0.1:5000/hello:v1
package main

import (
	"context"
	"fmt"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: library PACKAGE REPOSITORY:TAG")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "library:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pkg, ref string) error {
	platforms, err := platform.ParseList([]string{"linux/amd64", "linux/arm/v7"})
	if err != nil {
		return err
	}
	// Check that this Go supports the platforms. Build does that, too.
	goc := new(crosscompile.Go)
	if err := goc.Check(ctx, ".", platforms, nil); err != nil {
		return err
	}
	// The images are files in work until they are stored.
	work, err := os.MkdirTemp("", "library-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	client := new(registry.Client)
	builder := &build.Builder{Bases: client, Go: goc, Work: work}
	result, err := builder.Build(ctx, build.Spec{Program: build.GoPackage{Package: pkg}, Platforms: platforms, Config: build.Config{User: "1000"}}, build.Hooks{
		OnImage: func(_ context.Context, i build.Image) error {
			_, err := fmt.Println("built", platform.Key(i.Platform))
			return err
		},
	})
	if err != nil {
		return err
	}
	if err := client.Put(ctx, ref, result.Index); err != nil {
		return err
	}
	return look(ctx, client, ref)
}

// look makes an index of only the arm image, and prints its content.
func look(ctx context.Context, client *registry.Client, ref string) error {
	arm := manifest.Assembly{
		Items:  []manifest.Item{{Ref: ref}},
		Select: []ocispec.Platform{{OS: "linux", Architecture: "arm", Variant: "v7"}},
	}
	index, err := arm.Create(ctx, client)
	if err != nil {
		return err
	}
	if err := client.Put(ctx, ref+"-arm", index); err != nil {
		return err
	}
	report, err := manifest.Inspect(ctx, client, ref+"-arm", manifest.InspectOptions{})
	if err != nil {
		return err
	}
	for _, p := range report.Platforms {
		if _, err := fmt.Println(ref+"-arm", "has", p.Platform); err != nil {
			return err
		}
	}
	return nil
}
