package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// imageFor returns an image without layers.
func imageFor(text string) v1.Image {
	p, err := platform.Parse(text)
	if err != nil {
		log.Fatal(err)
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	if err != nil {
		log.Fatal(err)
	}
	return image
}

// layoutWith makes a layout with an image for each platform. The tags are the parts of the
// platforms. remove deletes it.
func layoutWith(ctx context.Context, texts ...string) (layout local.Store, remove func()) {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	layout = local.Layout(filepath.Join(dir, "layout"))
	for _, text := range texts {
		if err := layout.Put(ctx, platform.Fill("ARCHVARIANT", text), imageFor(text)); err != nil {
			log.Fatal(err)
		}
	}
	return layout, func() { os.RemoveAll(dir) }
}

// Makes an index from existing images of any source, here a layout.
func ExampleAssembly_Create() {
	ctx := context.Background()
	layout, remove := layoutWith(ctx, "linux/arm64", "linux/arm/v7", "linux/amd64")
	defer remove()

	index, err := manifest.Assembly{
		Items: []manifest.Item{{Ref: "arm64"}, {Ref: "armv7"}, {Ref: "amd64"}},
	}.Create(ctx, layout)
	if err != nil {
		log.Fatal(err)
	}
	if err := layout.Put(ctx, "v1", index); err != nil {
		log.Fatal(err)
	}
	report, err := manifest.Inspect(ctx, layout, "v1", manifest.InspectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, image := range report.Platforms {
		fmt.Println(image.Platform)
	}
	// Output:
	// linux/amd64
	// linux/arm/v7
	// linux/arm64
}

// Copies some platforms of an index. A target that already has the result is not written.
func ExampleCopy() {
	ctx := context.Background()
	from, removeFrom := layoutWith(ctx, "linux/amd64", "linux/arm64", "linux/s390x")
	defer removeFrom()
	to, removeTo := layoutWith(ctx)
	defer removeTo()
	index, err := manifest.Assembly{Items: []manifest.Item{{Ref: "amd64"}, {Ref: "arm64"}, {Ref: "s390x"}}}.Create(ctx, from)
	if err != nil {
		log.Fatal(err)
	}
	if err := from.Put(ctx, "app:v1", index); err != nil {
		log.Fatal(err)
	}
	keep, err := platform.ParseList([]string{"linux/amd64,linux/arm64"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := manifest.Copy(ctx, to, "app:v1", from, "app:v1", keep...); err != nil {
		log.Fatal(err)
	}
	report, err := manifest.Inspect(ctx, to, "app:v1", manifest.InspectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, image := range report.Platforms {
		fmt.Println(image.Platform)
	}
	// Output:
	// linux/amd64
	// linux/arm64
}

// Prints how an image is run.
func ExampleInspect() {
	ctx := context.Background()
	layout, remove := layoutWith(ctx, "linux/arm/v7")
	defer remove()
	report, err := manifest.Inspect(ctx, layout, "armv7", manifest.InspectOptions{Sizes: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Index, report.Platforms[0].Platform, len(report.Platforms[0].Notes))
	// Output: false linux/arm/v7 0
}

// Makes an index from images. Their platforms come from their configs and determine the
// order.
func ExampleIndex() {
	var children []manifest.Child
	for _, text := range []string{"linux/s390x", "linux/amd64"} {
		image := imageFor(text)
		d, err := manifest.Describe(image)
		if err != nil {
			log.Fatal(err)
		}
		p, err := platform.Parse(text)
		if err != nil {
			log.Fatal(err)
		}
		d.Platform = platform.ToV1(p)
		children = append(children, manifest.Child{Descriptor: d, Content: image})
	}
	index, err := manifest.Index(children, nil)
	if err != nil {
		log.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range m.Manifests {
		fmt.Println(d.Platform)
	}
	// Output:
	// linux/amd64
	// linux/s390x
}

// Chooses two platforms of an index, and compares the result with the target before
// anything is read.
func ExampleSelect() {
	ctx := context.Background()
	layout, remove := layoutWith(ctx, "linux/amd64", "linux/arm64", "linux/s390x")
	defer remove()
	index, err := manifest.Assembly{Items: []manifest.Item{{Ref: "amd64"}, {Ref: "arm64"}, {Ref: "s390x"}}}.Create(ctx, layout)
	if err != nil {
		log.Fatal(err)
	}
	if err := layout.Put(ctx, "app:v1", index); err != nil {
		log.Fatal(err)
	}
	wanted, err := platform.ParseList([]string{"linux/amd64,linux/riscv64"})
	if err != nil {
		log.Fatal(err)
	}
	selected, err := manifest.Select(ctx, layout, "app:v1", manifest.Keep{Platforms: wanted, Optional: true})
	if err != nil {
		log.Fatal(err)
	}
	_, err = layout.Resolve(ctx, "app:small")
	fmt.Println("exists:", !errors.Is(err, manifest.ErrNotFound))
	fmt.Println("absent:", platform.Keys(selected.Absent))
	content, err := selected.Open()
	if err == nil {
		err = layout.Put(ctx, "app:small", content)
	}
	if err != nil {
		log.Fatal(err)
	}
	now, err := layout.Resolve(ctx, "app:small")
	fmt.Println("copied:", now.Digest == selected.Descriptor.Digest, err)
	// Output:
	// exists: false
	// absent: linux/riscv64
	// copied: true <nil>
}

// Requires platforms of an image, as a gate in CI does.
func ExampleInspect_require() {
	ctx := context.Background()
	layout, remove := layoutWith(ctx, "linux/amd64", "linux/arm64")
	defer remove()
	index, err := manifest.Assembly{Items: []manifest.Item{{Ref: "amd64"}, {Ref: "arm64"}}}.Create(ctx, layout)
	if err != nil {
		log.Fatal(err)
	}
	if err := layout.Put(ctx, "app:v1", index); err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"linux/arm64/v8", "linux/s390x"} {
		required, err := platform.Parse(text)
		if err != nil {
			log.Fatal(err)
		}
		_, err = manifest.Inspect(ctx, layout, "app:v1", manifest.InspectOptions{Platform: required})
		var lacks *manifest.PlatformError
		fmt.Println(text, errors.As(err, &lacks))
	}
	// Output:
	// linux/arm64/v8 false
	// linux/s390x true
}
