package build_test

import (
	"archive/tar"
	"errors"
	"io"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/manifest/platform"
)

func parse(t *testing.T, texts ...string) []ocispec.Platform {
	t.Helper()
	list, err := platform.ParseList(texts)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The index of hello on the static base has a valid image for each platform, in order.
func TestHelloOnStaticIsAValidIndex(t *testing.T) {
	b := build.Builder{Work: t.TempDir(), Cache: t.TempDir()}
	r, err := b.Build(t.Context(), build.Spec{Program: build.GoPackage{Package: "../examples/hello"}, Platforms: parse(t, "linux/amd64,linux/arm64,linux/arm/v7,linux/s390x")}, build.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(r.Index); err != nil {
		t.Fatal(err)
	}
	m, err := r.Index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if m.MediaType != types.OCIImageIndex || m.SchemaVersion != 2 {
		t.Errorf("the index is %s, schema %d", m.MediaType, m.SchemaVersion)
	}
	var got []string
	for _, d := range m.Manifests {
		got = append(got, platform.Key(platform.FromV1(d.Platform)))
		image, err := r.Index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkHello(t, image, d)
	}
	if want := []string{"linux/amd64", "linux/arm/v7", "linux/arm64", "linux/s390x"}; !slices.Equal(got, want) {
		t.Errorf("the index has %v, want %v", got, want)
	}
	if len(r.Images) != len(m.Manifests) {
		t.Errorf("%d images for %d descriptors", len(r.Images), len(m.Manifests))
	}
}

// checkHello checks an image of hello on the static base: the config has its platform and a
// user other than root, and the second of its two layers holds the program.
func checkHello(t *testing.T, image v1.Image, d v1.Descriptor) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !config.Platform().Equals(*d.Platform) {
		t.Errorf("the config is for %v, its descriptor for %v", config.Platform(), d.Platform)
	}
	if c := config.Config; !slices.Equal(c.Entrypoint, []string{"/mabuild/hello"}) || len(c.Cmd) != 0 || c.User != "65532:65532" {
		t.Errorf("%v: entrypoint %q, command %q, user %q", d.Platform, c.Entrypoint, c.Cmd, c.User)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(layers) != 2 || len(config.History) != 2 {
		t.Fatalf("%v: %d layers, %d lines of history", d.Platform, len(layers), len(config.History))
	}
	content, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	last := ""
	for files := tar.NewReader(content); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = h.Name
	}
	if last != "mabuild/hello" {
		t.Errorf("%v: the last layer ends with %q", d.Platform, last)
	}
}
