package main

import (
	"log/slog"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Where the tag names something, the layers of a base travel beside the compiler if
// the image is known to have stood on another one, and cost no request otherwise.
func TestLayersOfANewBaseTravelAtOnce(t *testing.T) {
	r, err := regtest.New(regtest.Options{})
	check(t, err)
	defer func() { check(t, r.Close()) }()
	index := regtest.RandomIndex(t, 1000, 2, "amd64", "arm64")
	children, err := index.IndexManifest()
	check(t, err)
	base, err := index.Image(children.Manifests[0].Digest)
	check(t, err)
	digest, err := base.Digest()
	check(t, err)
	other := children.Manifests[1].Digest
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	bases := baselineIn(t.TempDir())
	for _, c := range []struct {
		what     string
		stood    v1.Hash
		named    bool
		requests bool
	}{
		{"a new tag", v1.Hash{}, false, true},
		{"a tag of which nothing is remembered", v1.Hash{}, true, false},
		{"the same base", digest, true, false},
		{"another base", other, true, true},
	} {
		client := &registry.Client{}
		pub := &publisher{client: client, log: slog.New(slog.DiscardHandler), bases: bases}
		repos := repositories([]string{r.Host + "/app:v1"})
		close(repos[0].ready)
		if c.named {
			repos[0].current.Digest = other
		}
		bases.add(repos[0].name, "linux/amd64", c.stood)
		r.Reset()
		check(t, pub.hooks(program{}, repos, newPlatformResults()).OnBase(t.Context(), p, base))
		if got := r.Total() > 0; got != c.requests {
			t.Errorf("%s: asked %t, want %t", c.what, got, c.requests)
		}
	}
}
