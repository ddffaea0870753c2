package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	theirs "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	layout := local.Layout(filepath.Join(dir, "image"))
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

// Sends the layers of the base image while the program is still compiled. The push of the
// image later waits for these uploads and does not repeat them.
func ExampleHooks_base() {
	ctx := context.Background()
	server := httptest.NewServer(theirs.New(theirs.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	work, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(work)
	client := new(registry.Client)
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		log.Fatal(err)
	}
	if base, err = mutate.AppendLayers(base, emptyLayer()); err != nil {
		log.Fatal(err)
	}
	if err := client.Put(ctx, host+"/acme/base:v1", base); err != nil {
		log.Fatal(err)
	}

	tag := host + "/acme/hello:v1"
	platforms, err := platform.ParseList([]string{"linux/amd64"})
	if err != nil {
		log.Fatal(err)
	}
	b := build.Builder{Bases: client, Work: work}
	_, err = b.Build(ctx, build.Spec{Program: build.GoPackage{Package: "../examples/hello"}, Base: host + "/acme/base:v1", Platforms: platforms}, build.Hooks{
		OnBase: func(ctx context.Context, p ocispec.Platform, base v1.Image) error {
			layers, err := base.Layers()
			if err != nil {
				return err
			}
			return client.Carry(ctx, tag, layers...)
		},
		OnImage: func(ctx context.Context, i build.Image) error { return client.Put(ctx, tag, i.Image) },
	})
	if err != nil {
		log.Fatal(err)
	}
	report, err := manifest.Inspect(ctx, client, tag, manifest.InspectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Platforms[0].Platform)
	// Output: linux/amd64
}

// emptyLayer returns a layer without files.
func emptyLayer() v1.Layer {
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		log.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	if err != nil {
		log.Fatal(err)
	}
	return layer
}
