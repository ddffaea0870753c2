package manifest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// shelved returns a source with these images, by name.
func shelved(t *testing.T, images map[string]manifest.Child) *shelf {
	t.Helper()
	s := &shelf{contents: map[string]manifest.Content{}}
	for name, c := range images {
		s.contents[name] = c.Content
	}
	return s
}

func items(refs ...string) (list []manifest.Item) {
	for _, ref := range refs {
		list = append(list, manifest.Item{Ref: ref})
	}
	return list
}

func entries(t *testing.T, idx v1.ImageIndex) (list []string) {
	t.Helper()
	im, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range im.Manifests {
		list = append(list, platform.Key(platform.FromV1(d.Platform)))
	}
	return list
}

// The order in which images are named does not change the bytes of the index.
func TestAssemblyIsDeterministic(t *testing.T) {
	images := map[string]manifest.Child{}
	var refs []string
	for _, key := range []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "windows/amd64:10.0.17763.1"} {
		images[key] = child(t, key, types.OCIManifestSchema1)
		refs = append(refs, key)
	}
	s := shelved(t, images)
	var first v1.Hash
	chance := rand.New(rand.NewPCG(uint64(regtest.Seed(t)), 0))
	for range 20 {
		chance.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
		idx, err := manifest.Assembly{Items: items(refs...)}.Create(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := idx.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if first == (v1.Hash{}) {
			first = digest
		}
		if digest != first {
			t.Fatalf("%v gives %s, not %s", refs, digest, first)
		}
	}
}

// All errors are reported at once, each with its kind.
func TestAssemblyReportsAllErrors(t *testing.T) {
	s := shelved(t, map[string]manifest.Child{
		"a": child(t, "linux/amd64", types.OCIManifestSchema1),
		"b": child(t, "linux/arm64", types.OCIManifestSchema1),
	})
	declared, err := platform.Declared("linux/s390x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = manifest.Assembly{Items: []manifest.Item{{Ref: "a", Platform: declared}, {Ref: "b"}, {Ref: "gone"}, {Ref: "lost"}}}.Create(t.Context(), s)
	if !errors.Is(err, manifest.ErrMismatch) || !errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"a: declared linux/s390x, its config says linux/amd64", "gone: not found", "lost: not found"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v\ndoes not contain %q", err, want)
		}
	}
}

// An attestation is in the new index if and only if the image that it describes is.
func TestAttestationsFollow(t *testing.T) {
	amd64, arm64 := child(t, "linux/amd64", types.OCIManifestSchema1), child(t, "linux/arm64", types.OCIManifestSchema1)
	whole, err := manifest.Index([]manifest.Child{amd64, arm64, attestation(t, amd64.Descriptor.Digest), attestation(t, arm64.Descriptor.Digest)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := shelved(t, map[string]manifest.Child{"s390x": child(t, "linux/s390x", types.OCIManifestSchema1)})
	s.contents["whole"] = whole
	for name, c := range map[string]struct {
		a    manifest.Assembly
		want string
	}{
		"create":  {manifest.Assembly{Items: items("whole", "s390x")}, "linux/amd64 unknown/unknown linux/arm64 unknown/unknown linux/s390x"},
		"twice":   {manifest.Assembly{Base: whole, Items: items("whole"), Replace: true}, "linux/amd64 unknown/unknown linux/arm64 unknown/unknown"},
		"select":  {manifest.Assembly{Items: items("whole"), Select: linux(t, "arm64")}, "linux/arm64 unknown/unknown"},
		"remove":  {manifest.Assembly{Base: whole, Remove: []string{"linux/amd64"}}, "linux/arm64 unknown/unknown"},
		"digest":  {manifest.Assembly{Base: whole, Remove: []string{arm64.Descriptor.Digest.String()}}, "linux/amd64 unknown/unknown"},
		"add":     {manifest.Assembly{Base: whole, Items: items("s390x")}, "linux/amd64 unknown/unknown linux/arm64 unknown/unknown linux/s390x"},
		"declare": {manifest.Assembly{Items: []manifest.Item{{Ref: "whole", Platform: linux(t, "arm64")[0]}, {Ref: "s390x"}}}, "linux/arm64 unknown/unknown linux/s390x"},
	} {
		idx, err := c.a.Create(t.Context(), s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join(entries(t, idx), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Assembling a single index without changes keeps its digest.
func TestAssemblyOfOneIndexIsThatIndex(t *testing.T) {
	idx := fixture(t, "windows.json")
	got, err := manifest.Assembly{Items: items("it")}.Create(t.Context(), one(idx))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := idx.Digest()
	if is, err := got.Digest(); err != nil || is != want {
		t.Errorf("%s, %v; want %s", is, err, want)
	}
}

// Nested indexes are flattened, up to a depth of eight, and no image is read for that.
func TestAssemblyFlattens(t *testing.T) {
	inner, err := manifest.Index([]manifest.Child{child(t, "linux/amd64", types.OCIManifestSchema1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]manifest.Child{"s390x": child(t, "linux/s390x", types.OCIManifestSchema1)}
	s := shelved(t, other)
	s.contents["deep"], s.contents["deeper"], s.contents["hundred"] = within(inner, 8), within(inner, 9), fixture(t, "hundred.json")
	idx, err := manifest.Assembly{Items: items("deep", "s390x")}.Create(t.Context(), s)
	if err != nil || !slices.Equal(entries(t, idx), []string{"linux/amd64", "linux/s390x"}) {
		t.Errorf("%v", err)
	}
	if _, err := (manifest.Assembly{Items: items("deeper", "s390x")}).Create(t.Context(), s); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("a depth of nine: %v", err)
	}
	if idx, err := (manifest.Assembly{Items: items("hundred", "s390x")}).Create(t.Context(), s); err != nil || len(entries(t, idx)) != 101 {
		t.Errorf("an index of a hundred images: %v", err)
	}
	if idx, err := (manifest.Assembly{Items: items("hundred"), Select: osFive(t)}).Create(t.Context(), s); err != nil || len(entries(t, idx)) != 1 {
		t.Errorf("one image of a hundred: %v", err)
	}
}

func osFive(t *testing.T) []ocispec.Platform {
	t.Helper()
	p, err := platform.Parse("os5/s390x")
	if err != nil {
		t.Fatal(err)
	}
	return []ocispec.Platform{p}
}

// If the platform of a source was declared and its content has changed since, reading it is
// an error.
func TestTrustedSourceThatMoves(t *testing.T) {
	before, after := child(t, "linux/amd64", types.OCIManifestSchema1), child(t, "linux/amd64", types.OCIManifestSchema1)
	s := shelved(t, map[string]manifest.Child{"a": before})
	idx, err := manifest.Assembly{TrustPlatforms: true, Items: []manifest.Item{{Ref: "a", Platform: linux(t, "amd64")[0]}}}.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idx.Image(before.Descriptor.Digest); err != nil {
		t.Error(err)
	}
	s.contents["a"] = after.Content
	if _, err := idx.Image(before.Descriptor.Digest); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("%v", err)
	}
}

// Annotations of an item go into its descriptor, and warnings go to the log.
func TestAssemblyAnnotatesAndWarns(t *testing.T) {
	s := shelved(t, map[string]manifest.Child{
		"a": child(t, "linux/amd64", types.OCIManifestSchema1), "b": child(t, "linux/arm64", types.DockerManifestSchema2),
	})
	var said strings.Builder
	a := manifest.Assembly{Items: items("a", "b"), Log: slog.New(slog.NewTextHandler(&said, nil))}
	a.Items[0].Annotations = map[string]string{"k": "v"}
	idx, err := a.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	im, _ := idx.IndexManifest()
	if im.Manifests[0].Annotations["k"] != "v" || im.Manifests[1].Annotations["k"] != "" || im.MediaType != types.OCIImageIndex {
		t.Errorf("%+v", im)
	}
	if !strings.Contains(said.String(), "contains both Docker and OCI") {
		t.Errorf("the log has %q", said.String())
	}
}
