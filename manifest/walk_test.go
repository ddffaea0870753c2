package manifest_test

import (
	"errors"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
)

// Walk visits entries before the index that lists them, reads each index once and nothing
// else, and stops at the first error of visit.
func TestWalk(t *testing.T) {
	img := regtest.RandomIndex(t, 10, 1, "amd64", "arm64")
	im, err := img.IndexManifest()
	check(t, err)
	inner, err := manifest.Describe(img)
	check(t, err)
	reads := 0
	child := func(d v1.Descriptor) manifest.Child {
		return manifest.Child{Descriptor: d, Open: func() (manifest.Content, error) {
			reads++
			return img, nil
		}}
	}
	first, second := inner, inner
	first.Platform, second.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}, &v1.Platform{OS: "linux", Architecture: "arm64"}
	outer, err := manifest.Index([]manifest.Child{child(first), child(second)}, nil)
	check(t, err)
	own, err := outer.Digest()
	check(t, err)
	var got, want []v1.Hash
	check(t, manifest.Walk(outer, nil, func(n manifest.Node) error {
		got = append(got, n.Descriptor.Digest)
		return nil
	}))
	want = append(want, im.Manifests[0].Digest, im.Manifests[1].Digest, inner.Digest, inner.Digest, own)
	if !slices.Equal(got, want) || reads != 1 {
		t.Errorf("%d reads, visited\n%v, want\n%v", reads, got, want)
	}
	ended := errors.New("enough")
	visits := 0
	if err := manifest.Walk(outer, nil, func(manifest.Node) error { visits++; return ended }); !errors.Is(err, ended) || visits != 1 {
		t.Errorf("%d visits, %v", visits, err)
	}
}

// Missing returns an index for an entry that its index does not contain. An index with
// another digest is refused.
func TestWalkMissing(t *testing.T) {
	img := regtest.RandomIndex(t, 10, 1, "amd64")
	inner, err := manifest.Describe(img)
	check(t, err)
	inner.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	outer, err := manifest.Index([]manifest.Child{{Descriptor: inner}}, nil)
	check(t, err)
	none := func(manifest.Node) error { return nil }
	if err := manifest.Walk(outer, nil, none); !errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("nothing is there: %v", err)
	}
	check(t, manifest.Walk(outer, func(v1.Descriptor) (manifest.Content, error) { return img, nil }, none))
	other := regtest.RandomIndex(t, 10, 1, "amd64")
	err = manifest.Walk(outer, func(v1.Descriptor) (manifest.Content, error) { return other, nil }, none)
	if !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("another index is there: %v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
