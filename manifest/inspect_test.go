package manifest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// shelf is a Source of contents by name that counts calls of Get.
type shelf struct {
	contents  map[string]manifest.Content
	referrers map[string][]manifest.Referrer
	gets      atomic.Int64
}

func (s *shelf) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return manifest.Describe(c)
}

func (s *shelf) Get(_ context.Context, ref string) (manifest.Content, error) {
	s.gets.Add(1)
	if c, ok := s.contents[ref]; ok {
		return c, nil
	}
	return nil, fmt.Errorf("%s: %w", ref, manifest.ErrNotFound)
}

func (s *shelf) Referrers(_ context.Context, _ string, subject v1.Hash, _ ...string) ([]manifest.Referrer, error) {
	return s.referrers[subject.String()], nil
}

// rawIndex is an index that consists only of its bytes. Opening an entry is an error.
type rawIndex struct{ raw []byte }

func (x rawIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }
func (x rawIndex) RawManifest() ([]byte, error)        { return x.raw, nil }
func (x rawIndex) Digest() (v1.Hash, error)            { return partial.Digest(x) }
func (x rawIndex) Size() (int64, error)                { return partial.Size(x) }
func (x rawIndex) IndexManifest() (*v1.IndexManifest, error) {
	var im v1.IndexManifest
	return &im, json.Unmarshal(x.raw, &im)
}

func (x rawIndex) Image(h v1.Hash) (v1.Image, error) {
	return nil, fmt.Errorf("image %s was opened", h)
}

func (x rawIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("index %s was opened", h)
}

// one returns a shelf with one content under the name "it".
func one(c manifest.Content) *shelf { return &shelf{contents: map[string]manifest.Content{"it": c}} }

func fixture(t *testing.T, file string) rawIndex {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../testdata/inspect", file))
	if err != nil {
		t.Fatal(err)
	}
	return rawIndex{raw}
}

func inspect(t *testing.T, s manifest.Source, look manifest.InspectOptions) *manifest.Report {
	t.Helper()
	r, err := manifest.Inspect(t.Context(), s, "it", look)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keys(r *manifest.Report) []string {
	var list []string
	for _, p := range r.Platforms {
		list = append(list, p.Platform)
	}
	return list
}

// Only the index is read, whatever its entries are.
func TestInspectFixtures(t *testing.T) {
	for file, want := range map[string][]string{
		"buildkit.json": {"linux/amd64", "linux/arm64"},
		"mixed.json":    {"linux/amd64", "linux/arm64", "linux/arm/v7"},
		"windows.json":  {"linux/amd64", "windows/amd64:10.0.17763.7678", "windows/amd64:10.0.20348.4052+win32k"},
	} {
		s := one(fixture(t, file))
		r := inspect(t, s, manifest.InspectOptions{})
		if !slices.Equal(keys(r), want) || !r.Index || s.gets.Load() != 1 {
			t.Errorf("%s: %v, want %v; %d gets", file, keys(r), want, s.gets.Load())
		}
		for _, p := range r.Platforms {
			if slices.Equal(p.Notes, []string{"attested"}) != (file == "buildkit.json") {
				t.Errorf("%s: %s has notes %v", file, p.Platform, p.Notes)
			}
		}
	}
	if r := inspect(t, one(fixture(t, "hundred.json")), manifest.InspectOptions{}); len(r.Platforms) != 100 {
		t.Errorf("%d platforms of 100", len(r.Platforms))
	}
	r := inspect(t, one(fixture(t, "others.json")), manifest.InspectOptions{})
	if len(r.Platforms) != 1 || len(r.Others) != 2 || r.Others[1].ArtifactType != "application/vnd.example.sbom" {
		t.Errorf("others: %+v", r)
	}
}

// within nests an index in others, up to the depth.
func within(idx v1.ImageIndex, depth int) v1.ImageIndex {
	for range depth - 1 {
		idx = mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: idx})
	}
	return idx
}

// Nested indexes are read up to a depth of eight, and each only once.
func TestInspectFollowsIndexes(t *testing.T) {
	inner, err := manifest.Index([]manifest.Child{child(t, "linux/amd64", types.OCIManifestSchema1), child(t, "linux/s390x", types.OCIManifestSchema1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := inspect(t, one(within(inner, 8)), manifest.InspectOptions{Sizes: true})
	if !slices.Equal(keys(r), []string{"linux/amd64", "linux/s390x"}) || r.Platforms[0].Within == nil || r.Platforms[0].Size == 0 {
		t.Errorf("%+v", r)
	}
	if _, err := manifest.Inspect(t.Context(), one(within(inner, 9)), "it", manifest.InspectOptions{}); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("a depth of nine: %v", err)
	}
	// The same index on 10 × 10 × 10 paths is read once.
	dag := inner
	for range 3 {
		adds := []mutate.IndexAddendum{}
		for range 10 {
			adds = append(adds, mutate.IndexAddendum{Add: dag})
		}
		dag = mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
	}
	if r := inspect(t, one(dag), manifest.InspectOptions{}); len(r.Platforms) != 2 {
		t.Errorf("%d platforms", len(r.Platforms))
	}
}

// An entry without a platform is read, and the report says that its platform comes from the
// config.
func TestInspectReadsEntriesWithoutPlatform(t *testing.T) {
	c := child(t, "linux/arm/v6", types.OCIManifestSchema1)
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: c.Content.(v1.Image)})
	idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.example.thing")})
	r := inspect(t, one(idx), manifest.InspectOptions{})
	if !slices.Equal(keys(r), []string{"linux/arm/v6"}) || !r.Platforms[0].FromConfig || len(r.Others) != 1 {
		t.Errorf("%+v", r)
	}
}

// An index with too many entries is an error and uses little memory.
func TestInspectBoundsWhatItLists(t *testing.T) {
	entry := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1,"platform":{"os":"linux","architecture":"amd64"}},`
	raw := `{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(entry, 100_000), ",") + `]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := manifest.Inspect(t.Context(), one(rawIndex{[]byte(raw)}), "it", manifest.InspectOptions{}); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("an index of 100,000: %v", err)
	}
	a := manifest.Assembly{Items: []manifest.Item{{Ref: "it"}}, Select: linux(t, "amd64")}
	if _, err := a.Create(t.Context(), one(rawIndex{[]byte(raw)})); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("an index of 100,000: %v", err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 256<<20 {
		t.Errorf("%d MiB were used", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

// The notes on an image summarize the types of its referrers.
func TestInspectNotes(t *testing.T) {
	c := child(t, "linux/amd64", types.OCIManifestSchema1)
	s := one(c.Content)
	refer := func(kind, predicate string) manifest.Referrer {
		return manifest.Referrer{Descriptor: v1.Descriptor{ArtifactType: kind, Annotations: map[string]string{"dev.sigstore.bundle.predicateType": predicate}}}
	}
	for want, list := range map[string][]manifest.Referrer{
		"":                               nil,
		"signature (not verified)":       {{Tag: "sha256-00.sig"}},
		"sbom, signature (not verified)": {refer("application/vnd.cncf.notary.signature", ""), refer("application/vnd.cyclonedx+json", "")},
		"provenance":                     {refer("application/vnd.dev.sigstore.bundle.v0.3+json", "https://slsa.dev/provenance/v1")},
		"signature (not verified), a/b":  {refer("a/b", ""), refer("application/vnd.dev.sigstore.bundle.v0.3+json", ""), refer("a/b", "")},
		"attested":                       {refer("application/vnd.in-toto+json", "")},
		"sbom":                           {refer("application/vnd.in-toto+json", "https://cyclonedx.org/bom"), refer("application/vnd.in-toto+json", "")},
		"referrer":                       {{}},
		// BuildKit's attestation manifest as a referrer.
		"attested, a/c": {refer("application/vnd.docker.attestation.manifest.v1+json", ""), refer("a/c", "")},
		"sbom, signature (not verified), x/y, z/": {refer("z/", ""), refer("x/y", ""), {Tag: "t"}, refer("application/spdx+json", "")},
	} {
		s.referrers = map[string][]manifest.Referrer{c.Descriptor.Digest.String(): list}
		r := inspect(t, s, manifest.InspectOptions{Referrers: true})
		if got := strings.Join(r.Platforms[0].Notes, ", "); got != want {
			t.Errorf("notes %q, want %q", got, want)
		}
	}
}

// With a platform, Inspect describes the image that would run there, or lists the platforms
// of the index.
func TestInspectOnePlatform(t *testing.T) {
	amd64, v6 := child(t, "linux/amd64", types.OCIManifestSchema1), child(t, "linux/arm/v6", types.OCIManifestSchema1)
	idx, err := manifest.Index([]manifest.Child{amd64, v6}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := inspect(t, one(idx), manifest.InspectOptions{Platform: linux(t, "arm/v7")[0]})
	if !slices.Equal(keys(r), []string{"linux/arm/v6"}) || r.Platforms[0].Image == nil || len(r.Platforms[0].Image.Layers) != 1 {
		t.Errorf("%+v", r)
	}
	_, err = manifest.Inspect(t.Context(), one(idx), "it", manifest.InspectOptions{Platform: linux(t, "s390x")[0]})
	var p *manifest.PlatformError
	if !errors.As(err, &p) || err.Error() != "it does not support linux/s390x, only linux/amd64, linux/arm/v6" {
		t.Errorf("%v", err)
	}
}

// A layer with a negative size, or sizes whose sum overflows, are an error.
func TestInspectRefusesImpossibleSizes(t *testing.T) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, size := range []int64{-1, 1<<63 - 1} {
		s := one(lying{img, size})
		if _, err := manifest.Inspect(t.Context(), s, "it", manifest.InspectOptions{Sizes: true}); !errors.Is(err, manifest.ErrMismatch) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

// lying is an image with a layer of an impossible size.
type lying struct {
	v1.Image
	size int64
}

func (l lying) Manifest() (*v1.Manifest, error) {
	m, err := l.Image.Manifest()
	m = m.DeepCopy()
	m.Layers = append(m.Layers, v1.Descriptor{Size: l.size})
	return m, err
}

// linux parses architectures with their variants.
func linux(t *testing.T, archs ...string) (list []ocispec.Platform) {
	t.Helper()
	for _, arch := range archs {
		p, err := platform.Parse("linux/" + arch)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}
