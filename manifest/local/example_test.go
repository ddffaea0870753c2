package local_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// Parses a place, as a program does for a flag.
func ExampleParse() {
	place, err := local.Parse("oci-archive:out/app.tar:app:v1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(place.Form, place.Path, place.Name)
	// Output: oci-archive out/app.tar app:v1
}

// Stores several images in one layout, each with its name, and copies one of them to a
// file.
func ExampleLayout() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	layout := local.Layout(filepath.Join(dir, "images"))
	for _, name := range []string{"app:v1", "app:v2"} {
		if err := layout.Put(ctx, name, empty.Image); err != nil {
			log.Fatal(err)
		}
	}
	archive := local.Archive(filepath.Join(dir, "app.tar"))
	d, err := manifest.Copy(ctx, archive, "app:v2", layout, "v2")
	if err != nil {
		log.Fatal(err)
	}
	again, err := archive.Resolve(ctx, "app:v2")
	fmt.Println(again.Digest == d.Digest, err)
	// Output: true <nil>
}

// Carries an index over an air gap: on one side it is copied into a file, on the other side
// from the file into a registry, or as here into a layout. All digests stay the same.
func ExampleArchive() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	outside := local.Layout(filepath.Join(dir, "outside"))
	if err := outside.Put(ctx, "ghcr.io/acme/app:v1", empty.Index); err != nil {
		log.Fatal(err)
	}
	file := filepath.Join(dir, "carried.tar")
	if _, err := manifest.Copy(ctx, local.Archive(file), "ghcr.io/acme/app:v1", outside, "ghcr.io/acme/app:v1"); err != nil {
		log.Fatal(err)
	}

	carried := local.Archive(file)
	defer carried.Close()
	inside := local.Layout(filepath.Join(dir, "inside"))
	copied, err := manifest.Copy(ctx, inside, "registry.local/app:v1", carried, "ghcr.io/acme/app:v1")
	if err != nil {
		log.Fatal(err)
	}
	was, err := outside.Resolve(ctx, "ghcr.io/acme/app:v1")
	fmt.Println(copied.Digest == was.Digest, err)
	// Output: true <nil>
}
