package manifest_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/manifest"
)

// An undeclared index says of some children no platform. It counts who is read.
type undeclared struct {
	all  // an index
	read map[v1.Hash]int
}

type all = interface{ v1.ImageIndex }

func (u undeclared) Image(h v1.Hash) (v1.Image, error) {
	u.read[h]++
	return u.all.Image(h)
}

func artifact(t *testing.T) v1.Image {
	t.Helper()
	img := child(t, "", types.OCIManifestSchema1).Content.(v1.Image)
	return mutate.ConfigMediaType(img, "application/vnd.oci.empty.v1+json")
}

// withArtifact is an index of an image for linux/amd64, one for linux/arm64 without a
// platform, and an artifact, in another order.
func withArtifact(t *testing.T) (idx undeclared, plain, other v1.Hash) {
	t.Helper()
	made, silent := artifact(t), child(t, "linux/arm64", types.OCIManifestSchema1)
	all := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: made}, mutate.IndexAddendum{Add: silent.Content.(v1.Image)})
	amd := child(t, "linux/amd64", types.OCIManifestSchema1)
	all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: amd.Content.(v1.Image), Descriptor: amd.Descriptor})
	im, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range im.Manifests[:2] {
		if d.Platform != nil {
			t.Fatalf("%s has a platform", d.Digest)
		}
	}
	return undeclared{all, map[v1.Hash]int{}}, silent.Descriptor.Digest, im.Manifests[0].Digest
}

// What is wanted is taken from an index whatever else is in it; what cannot be meant is
// not read.
func TestSelectBesideAnArtifact(t *testing.T) {
	idx, silent, made := withArtifact(t)
	for _, c := range []struct {
		keep  string
		reads map[v1.Hash]int
	}{
		{"linux/amd64", map[v1.Hash]int{}},
		{"linux/arm64", map[v1.Hash]int{silent: 1, made: 1}},
		{"linux/amd64,linux/arm64", map[v1.Hash]int{silent: 1, made: 1}},
	} {
		clear(idx.read)
		s, err := manifest.Select(t.Context(), one(idx), "it", manifest.Keep{Platforms: platforms(t, c.keep)})
		if err != nil {
			t.Errorf("%s: %v", c.keep, err)
			continue
		}
		for h, n := range idx.read {
			if n != c.reads[h] {
				t.Errorf("%s: %s read %d times", c.keep, h, n)
			}
		}
		if len(idx.read) != len(c.reads) {
			t.Errorf("%s: read %v", c.keep, idx.read)
		}
		content, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got := entries(t, content.(v1.ImageIndex)); strings.Join(got, ",") != c.keep {
			t.Errorf("%s: has %v", c.keep, got)
		}
	}
	if _, err := manifest.Select(t.Context(), one(idx), "it", manifest.Keep{Platforms: platforms(t, "linux/s390x")}); !isUnfit(err) {
		t.Errorf("%v", err)
	}
}

func isUnfit(err error) bool {
	var unfit *manifest.AssemblyError
	return errors.As(err, &unfit)
}

// An artifact stays in the index that is edited, after the images, and is left out of one
// that is made of another.
func TestAssemblyOfAnIndexWithAnArtifact(t *testing.T) {
	idx, _, made := withArtifact(t)
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
		if warned := strings.Contains(log.String(), "left out, it is no image"); warned != (name == "create") {
			t.Errorf("%s: %s", name, &log)
		}
	}
	s := &shelf{contents: map[string]manifest.Content{"it": artifact(t)}}
	if _, err := (manifest.Assembly{Items: items("it")}).Create(t.Context(), s); !isUnfit(err) || !strings.Contains(err.Error(), "it is no image but an artifact") {
		t.Errorf("%v", err)
	}
}
