package build_test

import (
	"testing"

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

func TestHelloOnStaticIsAValidIndex(t *testing.T) {
	b := build.Builder{Work: t.TempDir(), Cache: t.TempDir()}
	r, err := b.Build(t.Context(), build.Spec{Package: "../examples/hello", Platforms: parse(t, "linux/amd64,linux/arm64,linux/arm/v7,linux/s390x")}, build.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(r.Index); err != nil {
		t.Fatal(err)
	}
	raw, _ := r.Index.RawManifest()
	t.Logf("%s", raw)
	for _, i := range r.Images {
		c, _ := i.RawConfigFile()
		m, _ := i.RawManifest()
		t.Logf("%s\n%s", c, m)
	}
}
