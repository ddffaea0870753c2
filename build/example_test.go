package build_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	theirs "github.com/google/go-containerregistry/pkg/registry"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Builds one program for three platforms, as an index in a directory.
func ExampleBuilder_Build() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) // the last Put can still read the layers in it

	platforms, err := platform.ParseList([]string{"linux/amd64,linux/arm64,linux/arm/v6"})
	if err != nil {
		log.Fatal(err)
	}
	b := build.Builder{Work: dir}
	result, err := b.Build(ctx, build.Spec{Program: build.GoPackage{Package: "../examples/hello"}, Platforms: platforms}, build.Hooks{})
	if err != nil {
		log.Fatal(err)
	}
	layout := &local.Layout{Dir: filepath.Join(dir, "image")}
	if err := layout.Put(ctx, "hello:v1", result.Index); err != nil {
		log.Fatal(err)
	}
	report, err := manifest.Inspect(ctx, layout, "hello:v1", manifest.InspectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, image := range report.Platforms {
		fmt.Println(image.Platform)
	}
	// Output:
	// linux/amd64
	// linux/arm/v6
	// linux/arm64
}

// Pushes to a registry: each image is pushed when it is complete, while others still
// compile. The tag is updated last.
func ExampleHooks() {
	ctx := context.Background()
	server := httptest.NewServer(theirs.New(theirs.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/acme/hello"
	work, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(work)

	platforms, err := platform.ParseList([]string{"linux/amd64", "linux/s390x"})
	if err != nil {
		log.Fatal(err)
	}
	client := new(registry.Client)
	b := build.Builder{Bases: client, Work: work}
	result, err := b.Build(ctx, build.Spec{Program: build.GoPackage{Package: "../examples/hello"}, Platforms: platforms}, build.Hooks{
		OnImage: func(ctx context.Context, i build.Image) error {
			digest, err := i.Digest()
			if err != nil {
				return err
			}
			return client.Put(ctx, repository+"@"+digest.String(), i.Image)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Put(ctx, repository+":v1", result.Index); err != nil {
		log.Fatal(err)
	}
	tags, err := client.Tags(ctx, repository)
	fmt.Println(tags, err)
	// Output: [v1] <nil>
}

// Prints what would be built, and on which base image, without compiling.
func ExampleBuilder_Plan() {
	work, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(work)
	platforms, err := platform.ParseList([]string{"linux/riscv64", "windows/amd64"})
	if err != nil {
		log.Fatal(err)
	}
	b := build.Builder{Work: work}
	plan, err := b.Plan(context.Background(), build.Spec{
		Program: build.GoPackage{Package: "../examples/hello"}, Platforms: platforms,
		Base: build.Static, Bases: map[string]string{"windows/amd64": build.Scratch},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, base := range plan.Bases {
		fmt.Println(plan.Spec.Name, platform.Key(base.Platform), "on", base.Ref)
	}
	// Output:
	// hello linux/riscv64 on static
	// hello windows/amd64 on scratch
}

// Validate reports all errors at once, each with its field.
func ExampleSpec_Validate() {
	_, err := build.Spec{Path: "bin/app", Config: build.Config{Env: []string{"HOME"}}}.Validate()
	fmt.Println(err)
	// Output:
	// platforms: no platform is set
	// path: "bin/app" is not an absolute path of a file
	// image: env: "HOME" is not NAME=value
}
