package local

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/manifest"
)

// makeReferrer returns an artifact with this subject.
func makeReferrer(t testing.TB, subject manifest.Content, kind string) v1.Image {
	t.Helper()
	d, err := manifest.Describe(subject)
	if err != nil {
		t.Fatal(err)
	}
	img := mutate.ConfigMediaType(makeImage(t, "linux/amd64", 10), types.MediaType("application/vnd.example."+kind))
	img = mutate.Annotations(img, map[string]string{"kind": kind}).(v1.Image)
	return mutate.Subject(img, d).(v1.Image)
}

func at(t testing.TB, c manifest.Content) string { return "@" + digestOf(t, c).String() }

// bundle returns an image of an index with referrers of both, and a signature under
// cosign's tag.
func bundle(t testing.TB) (image v1.ImageIndex, child manifest.Content, all []manifest.Named) {
	t.Helper()
	image = makeIndex(t, "linux/amd64", "linux/arm64")
	im, err := image.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if child, err = image.Image(im.Manifests[0].Digest); err != nil {
		t.Fatal(err)
	}
	sbom, own := makeReferrer(t, image, "sbom"), makeReferrer(t, child, "child")
	sig := "app:" + strings.Replace(digestOf(t, image).String(), ":", "-", 1) + ".sig"
	return image, child, []manifest.Named{
		{Ref: "app:v1", Content: image},
		{Ref: at(t, sbom), Content: sbom},
		{Ref: at(t, own), Content: own},
		{Ref: sig, Content: makeImage(t, "linux/amd64", 10)},
	}
}

// Referrers are stored with an image and found by their subject. They do not change which
// image a name means.
func TestReferrers(t *testing.T) {
	for form, s := range stores(t) {
		for _, once := range []bool{true, false} {
			image, child, all := bundle(t)
			if once {
				if err := s.(manifest.BatchPutter).PutAll(t.Context(), all...); err != nil {
					t.Fatal(err)
				}
			} else {
				for _, one := range slices.Concat(all, all[1:]) {
					put(t, s, one.Ref, one.Content)
				}
			}
			for _, ref := range []string{"", "app:v1"} {
				if ref == "" && !once {
					continue // the place has several images
				}
				if d, err := s.Resolve(t.Context(), ref); err != nil || d.Digest != digestOf(t, image) {
					t.Errorf("%s: %q is %s, %v", form, ref, d.Digest, err)
				}
			}
			finds := func(subject manifest.Content, want ...manifest.Named) {
				t.Helper()
				list, err := s.(manifest.ReferrerLister).Referrers(t.Context(), "", digestOf(t, subject), "sig", "att")
				if err != nil || len(list) != len(want) {
					t.Fatalf("%s: %d of %d: %v, %v", form, len(list), len(want), list, err)
				}
				for i, d := range list {
					c, err := s.Get(t.Context(), "@"+d.Digest.String())
					if err != nil || d.Digest != digestOf(t, want[i].Content) || validate.Image(c.(v1.Image)) != nil {
						t.Errorf("%s: %s for %s, %v", form, d.Digest, want[i].Ref, err)
					}
				}
			}
			finds(image, all[1], all[3])
			finds(child, all[2])
			finds(all[1].Content)
			list, err := s.(manifest.ReferrerLister).Referrers(t.Context(), "", digestOf(t, image))
			if err != nil || len(list) != 1 || list[0].ArtifactType != "application/vnd.example.sbom" || list[0].Annotations["kind"] != "sbom" {
				t.Errorf("%s: %v, %v", form, list, err)
			}
		}
		if err := s.Put(t.Context(), "@"+someDigest, makeImage(t, "linux/amd64", 10)); !errors.Is(err, manifest.ErrMismatch) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

// An image and its referrers are stored together or not at all.
func TestPackIsWhole(t *testing.T) {
	for form, s := range stores(t) {
		_, _, all := bundle(t)
		all[2].Content = brokenImage{all[2].Content.(v1.Image), func() (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }}
		if err := s.(manifest.BatchPutter).PutAll(t.Context(), all...); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", form, err)
		}
		if _, err := s.Resolve(t.Context(), "app:v1"); !errors.Is(err, manifest.ErrNotFound) {
			t.Errorf("%s: a part was stored: %v", form, err)
		}
		if a, ok := s.(*ociArchive); ok {
			if left, _ := os.ReadDir(filepath.Dir(a.File)); len(left) > 0 {
				t.Errorf("leftover files %v", left)
			}
		}
	}
}

// The name in a place belongs to the image, not to its referrers.
func TestPackUnderAName(t *testing.T) {
	image, _, all := bundle(t)
	all[0].Ref = "registry.example.com/app:v1"
	for _, text := range []string{FormLayout + ":" + t.TempDir() + ":mine", FormArchive + ":" + t.TempDir() + "/a.tar:mine"} {
		p, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		sink, err := p.Sink()
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.(manifest.BatchPutter).PutAll(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
		source, err := p.Source()
		if err != nil {
			t.Fatal(err)
		}
		list, err := source.(manifest.ReferrerLister).Referrers(t.Context(), "", digestOf(t, image), "sig")
		if err != nil || len(list) != 2 {
			t.Errorf("%s: %v, %v", text, list, err)
		}
		if d, err := source.Resolve(t.Context(), "mine"); err != nil || d.Digest != digestOf(t, image) {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	p := Place{Form: FormDockerArchive, Path: "a.tar", Name: "mine"}
	if sink, err := p.Sink(); err != nil {
		t.Error(err)
	} else if _, packs := sink.(manifest.BatchPutter); packs {
		t.Error("a Docker archive accepts referrers")
	}
}

// A referrer that cannot be read is an error.
func TestReferrersBroken(t *testing.T) {
	l := &ociLayout{Dir: t.TempDir()}
	image, _, all := bundle(t)
	if err := l.PutAll(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	h := digestOf(t, all[1].Content)
	if err := os.WriteFile(filepath.Join(l.Dir, "blobs", h.Algorithm, h.Hex), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (&ociLayout{Dir: l.Dir}).Referrers(t.Context(), "", digestOf(t, image)); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("got %v", err)
	}
	if _, err := (&ociLayout{Dir: t.TempDir() + "/none"}).Referrers(t.Context(), "", h); !errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
