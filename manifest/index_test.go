package manifest_test

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// child returns a random image for a platform, or without a platform if that is "".
func child(t *testing.T, key string, mediaType types.MediaType) manifest.Child {
	t.Helper()
	img, err := random.Image(64, 1, random.WithSource(regtest.Source(t)))
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.MediaType(img, mediaType)
	var of *v1.Platform
	if key != "" {
		p, err := platform.Parse(key)
		if err != nil {
			t.Fatal(err)
		}
		of = platform.ToV1(p)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config.OS, config.Architecture, config.Variant = of.OS, of.Architecture, of.Variant
		config.OSVersion, config.OSFeatures = of.OSVersion, of.OSFeatures
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
	}
	d, err := manifest.Describe(img)
	if err != nil {
		t.Fatal(err)
	}
	d.Platform = of
	return manifest.Child{Descriptor: d, Content: img}
}

// attestation returns an attestation as BuildKit makes them.
func attestation(t *testing.T, subject v1.Hash) manifest.Child {
	t.Helper()
	c := child(t, "unknown/unknown", types.OCIManifestSchema1)
	c.Descriptor.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	c.Descriptor.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": subject.String(),
	}
	return c
}

// An index is valid, its entries are sorted by platform, and attestations follow their
// image.
func TestIndexIsSortedAndValid(t *testing.T) {
	s390x := child(t, "linux/s390x", types.OCIManifestSchema1)
	armv7 := child(t, "linux/arm/v7", types.OCIManifestSchema1)
	armv6 := child(t, "linux/arm/v6", types.OCIManifestSchema1)
	windows := child(t, "windows/amd64:10.0.17763.1+win32k", types.OCIManifestSchema1)
	proof := attestation(t, armv7.Descriptor.Digest)
	idx, err := manifest.Index([]manifest.Child{windows, s390x, proof, armv7, armv6}, map[string]string{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(idx); err != nil {
		t.Fatal(err)
	}
	im, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	want := []v1.Hash{armv6.Descriptor.Digest, armv7.Descriptor.Digest, proof.Descriptor.Digest, s390x.Descriptor.Digest, windows.Descriptor.Digest}
	for i, d := range im.Manifests {
		if d.Digest != want[i] {
			t.Errorf("child %d is %v, want %s", i, d, want[i])
		}
		if d.ArtifactType != "" {
			t.Errorf("child %d has an artifactType", i)
		}
	}
	last := im.Manifests[4].Platform
	if last.OSVersion != "10.0.17763.1" || len(last.OSFeatures) != 1 || last.OSFeatures[0] != "win32k" {
		t.Errorf("os.version and os.features are missing: %+v", last)
	}
	if im.MediaType != types.OCIImageIndex || im.Annotations["k"] != "v" {
		t.Errorf("media type %s, annotations %v", im.MediaType, im.Annotations)
	}
}

// An index is a Docker manifest list only if all images are Docker images and there are no
// annotations.
func TestIndexIsDockersOnlyWhenAllChildrenAre(t *testing.T) {
	docker, oci := child(t, "linux/amd64", types.DockerManifestSchema2), child(t, "linux/arm64", types.OCIManifestSchema1)
	for want, children := range map[types.MediaType][]manifest.Child{
		types.DockerManifestList: {docker},
		types.OCIImageIndex:      {docker, oci},
	} {
		idx, err := manifest.Index(children, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := idx.MediaType(); err != nil || got != want {
			t.Errorf("media type %s, %v; want %s", got, err, want)
		}
	}
	if _, err := manifest.Index([]manifest.Child{docker}, map[string]string{"k": "v"}); err == nil {
		t.Error("a Docker manifest list has annotations")
	}
	idx, err := manifest.Index(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := idx.RawManifest(); !strings.Contains(string(raw), `"manifests":[]`) {
		t.Errorf("the empty index is %s", raw)
	}
}

// All errors are reported at once, each with the digests.
func TestIndexReportsAllErrorsAtOnce(t *testing.T) {
	first, second := child(t, "linux/arm64", types.OCIManifestSchema1), child(t, "linux/arm64/v8", types.OCIManifestSchema1)
	nowhere := child(t, "", types.OCIManifestSchema1)
	lost := attestation(t, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)})
	_, err := manifest.Index([]manifest.Child{first, second, nowhere, lost}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"linux/arm64 twice: " + first.Descriptor.Digest.String() + " and " + second.Descriptor.Digest.String(),
		nowhere.Descriptor.Digest.String() + " has no platform",
		"attestation " + lost.Descriptor.Digest.String() + " describes is not in the index",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not contain %q", err, want)
		}
	}
}

// Image and ImageIndex return the entries with which the index was made, each of its kind.
func TestIndexGivesItsChildrenBack(t *testing.T) {
	c := child(t, "linux/amd64", types.OCIManifestSchema1)
	nested := manifest.Child{Content: empty.Index}
	d, err := manifest.Describe(empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	d.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	nested.Descriptor = d
	idx, err := manifest.Index([]manifest.Child{c, nested}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := idx.Image(c.Descriptor.Digest); err != nil || img != c.Content {
		t.Errorf("Image = %v, %v", img, err)
	}
	if x, err := idx.ImageIndex(d.Digest); err != nil || x != nested.Content {
		t.Errorf("ImageIndex = %v, %v", x, err)
	}
	if _, err := idx.Image(d.Digest); err == nil {
		t.Error("Image returns an index")
	}
}
