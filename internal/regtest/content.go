package regtest

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image returns an image of random layers for linux/arch, each of size bytes. A test gets
// the same images in the same order in each run with the same [Seed].
func Image(t testing.TB, arch string, size int64, layers int) v1.Image {
	t.Helper()
	img, err := random.Image(size, int64(layers), random.WithSource(Source(t)))
	if err != nil {
		t.Fatal(err)
	}
	return forPlatform(t, img, arch)
}

// OnBase returns an image for linux/arch with the layers of base and one more layer of size
// bytes.
func OnBase(t testing.TB, base v1.Image, arch string, size int64) v1.Image {
	t.Helper()
	own, err := random.Layer(size, types.DockerLayer, random.WithSource(Source(t)))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(base, own)
	if err != nil {
		t.Fatal(err)
	}
	return forPlatform(t, img, arch)
}

func forPlatform(t testing.TB, img v1.Image, arch string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Index returns an index of images for linux on each of archs.
func Index(t testing.TB, images map[string]v1.Image, archs ...string) v1.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range archs {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add:        images[arch],
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return idx
}

// RandomIndex returns an index of images of random layers for linux on each of archs.
func RandomIndex(t testing.TB, size int64, layers int, archs ...string) v1.ImageIndex {
	t.Helper()
	images := map[string]v1.Image{}
	for _, arch := range archs {
		images[arch] = Image(t, arch, size, layers)
	}
	return Index(t, images, archs...)
}
