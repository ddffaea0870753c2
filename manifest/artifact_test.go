package manifest_test

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/manifest"
)

// undeclared is an index that gives no platform for some entries. It counts the images that
// are read.
type undeclared struct {
	all  // an index
	mu   *sync.Mutex
	read map[v1.Hash]int
}

type all = interface{ v1.ImageIndex }

func (u undeclared) Image(h v1.Hash) (v1.Image, error) {
	u.mu.Lock()
	u.read[h]++
	u.mu.Unlock()
	return u.all.Image(h)
}

func artifact(t *testing.T) v1.Image {
	t.Helper()
	img := child(t, "", types.OCIManifestSchema1).Content.(v1.Image)
	return mutate.ConfigMediaType(img, "application/vnd.oci.empty.v1+json")
}

// unsaid returns an in-toto statement that differs from an image only in its manifest.
func unsaid(t *testing.T) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte("{}"), "application/vnd.in-toto+json"))
	if err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// withArtifact returns an index with made, an artifact, an image for linux/arm64 without a
// platform, and images for the platforms, in this order.
func withArtifact(t *testing.T, made v1.Image, declared ...string) (idx undeclared, plain, other v1.Hash) {
	t.Helper()
	silent := child(t, "linux/arm64", types.OCIManifestSchema1)
	all := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: made}, mutate.IndexAddendum{Add: silent.Content.(v1.Image)})
	for _, key := range declared {
		one := child(t, key, types.OCIManifestSchema1)
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: one.Content.(v1.Image), Descriptor: one.Descriptor})
	}
	im, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range im.Manifests[:2] {
		if d.Platform != nil {
			t.Fatalf("%s has a platform", d.Digest)
		}
	}
	return undeclared{all, new(sync.Mutex), map[v1.Hash]int{}}, silent.Descriptor.Digest, im.Manifests[0].Digest
}

// Select returns the requested platforms and the artifacts of an index. An entry without a
// platform is read only if a platform is missing or if the index may be kept unchanged. An
// entry whose descriptor declares an artifact is never read.
func TestSelectBesideAnArtifact(t *testing.T) {
	said, saidSilent, _ := withArtifact(t, artifact(t), "linux/amd64", "linux/s390x")
	un, unSilent, unMade := withArtifact(t, unsaid(t), "linux/amd64", "linux/s390x")
	for name, c := range map[string]struct {
		of     undeclared
		keep   string
		reads  []v1.Hash
		want   string // "whole": the unchanged index
		silent int    // expected warnings
	}{
		"one":             {said, "linux/amd64", nil, "linux/amd64,/", 1},
		"both declared":   {said, "linux/amd64,linux/s390x", []v1.Hash{saidSilent}, "linux/amd64,linux/s390x,/", 0},
		"not declared":    {said, "linux/arm64", []v1.Hash{saidSilent}, "linux/arm64,/", 0},
		"all":             {said, "linux/amd64,linux/arm64,linux/s390x", []v1.Hash{saidSilent}, "whole", 0},
		"unsaid":          {un, "linux/amd64", nil, "linux/amd64", 2},
		"unsaid, both":    {un, "linux/amd64,linux/s390x", []v1.Hash{unSilent, unMade}, "linux/amd64,linux/s390x,/", 0},
		"unsaid, the one": {un, "linux/arm64", []v1.Hash{unSilent, unMade}, "linux/arm64,/", 0},
		"unsaid, all":     {un, "linux/amd64,linux/arm64,linux/s390x", []v1.Hash{unSilent, unMade}, "whole", 0},
	} {
		t.Run(name, func(t *testing.T) {
			clear(c.of.read)
			var log strings.Builder
			s, err := manifest.Select(t.Context(), one(c.of), "it", manifest.Keep{Platforms: platforms(t, c.keep), Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			want := map[v1.Hash]int{}
			for _, h := range c.reads {
				want[h] = 1
			}
			if !maps.Equal(c.of.read, want) {
				t.Errorf("read %v, want %v", c.of.read, want)
			}
			if n := strings.Count(log.String(), "skipped an entry: the index gives neither"); n != c.silent {
				t.Errorf("%d warnings, want %d: %s", n, c.silent, &log)
			}
			if len(s.Absent) > 0 {
				t.Errorf("absent: %v", s.Absent)
			}
			if whole := s.Descriptor.Digest == s.Found.Digest; whole || c.want == "whole" {
				if !whole || c.want != "whole" {
					t.Errorf("whole: %t, want %s", whole, c.want)
				}
				return
			}
			content, err := s.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(entries(t, content.(v1.ImageIndex)), ","); got != c.want {
				t.Errorf("has %v, want %s", got, c.want)
			}
		})
	}
	if _, err := manifest.Select(t.Context(), one(said), "it", manifest.Keep{Platforms: platforms(t, "linux/ppc64le")}); !isUnfit(err) {
		t.Errorf("%v", err)
	}
}

// An entry that cannot be read, and need not be, does not prevent the selection of other
// images.
func TestSelectWithMissingImages(t *testing.T) {
	idx, silent, made := withArtifact(t, unsaid(t), "linux/amd64")
	s, err := manifest.Select(t.Context(), one(gone{idx}), "it", manifest.Keep{Platforms: platforms(t, "linux/amd64")})
	if err != nil {
		t.Fatal(err)
	}
	content, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	if got := entries(t, content.(v1.ImageIndex)); !slices.Equal(got, []string{"linux/amd64"}) {
		t.Errorf("an index without the images %s and %s has %v", silent, made, got)
	}
}

// gone is an index whose images are all missing.
type gone struct{ all }

func (gone) Image(v1.Hash) (v1.Image, error) { return nil, manifest.ErrNotFound }

func isUnfit(err error) bool {
	var unfit *manifest.AssemblyError
	return errors.As(err, &unfit)
}

// An artifact stays in an edited index, after the images. It is left out of a new index.
func TestAssemblyOfAnIndexWithAnArtifact(t *testing.T) {
	idx, _, made := withArtifact(t, artifact(t), "linux/amd64")
	value := "text"
	want := []string{"linux/amd64", "linux/arm64"}
	for name, c := range map[string]struct {
		a      manifest.Assembly
		images []string
		stays  bool
	}{
		"annotate": {manifest.Assembly{Base: idx, ChildAnnotations: map[string]map[string]*string{"linux/arm64": {"key": &value}}}, want, true},
		"remove":   {manifest.Assembly{Base: idx, Remove: []string{"linux/arm64"}}, want[:1], true},
		"removed":  {manifest.Assembly{Base: idx, Remove: []string{made.String()}}, want, false},
		"add":      {manifest.Assembly{Base: idx, Items: items("s390x")}, append(slices.Clone(want), "linux/s390x"), true},
		"create":   {manifest.Assembly{Items: items("idx"), Annotations: map[string]*string{"key": &value}}, want, false},
	} {
		var log strings.Builder
		c.a.Log = slog.New(slog.NewTextHandler(&log, nil))
		s := &shelf{contents: map[string]manifest.Content{"idx": idx, "s390x": child(t, "linux/s390x", types.OCIManifestSchema1).Content}}
		result, err := c.a.Create(t.Context(), s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := validate.Index(result); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := entries(t, result)
		if c.stays {
			im, err := result.IndexManifest()
			if last := im.Manifests[len(im.Manifests)-1]; err != nil || last.Digest != made || last.Platform != nil {
				t.Errorf("%s: %+v, %v", name, last, err)
			}
			got = got[:len(got)-1]
		}
		if !slices.Equal(got, c.images) {
			t.Errorf("%s: %v", name, got)
		}
		if warned := strings.Contains(log.String(), "skipped an entry that is not an image"); warned != (name == "create") {
			t.Errorf("%s: %s", name, &log)
		}
	}
	s := &shelf{contents: map[string]manifest.Content{"it": artifact(t)}}
	if _, err := (manifest.Assembly{Items: items("it")}).Create(t.Context(), s); !isUnfit(err) || !strings.Contains(err.Error(), "it is an artifact") {
		t.Errorf("%v", err)
	}
}
