package regtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/internal/regtest"
)

// A fixture has the same content in a registry, a layout and an archive. With ordinary
// fields its images are valid.
func TestFixture(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	var f regtest.Fixture
	image := f.Image(regtest.JSON{"os": "linux", "architecture": "amd64"}, "text")
	index := f.Index(image.With("platform", regtest.JSON{"os": "linux", "architecture": "amd64"}), f.Artifact("application/vnd.example", true, "text"))
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "archive.tar")
	for _, err := range []error{f.Put(r, "app", "v1", index), f.Layout(dir, "v1", index), f.Archive(file, "v1", index)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := remote.Get(ref(t, r, "app:v1"))
	if err != nil || d.Digest.String() != index.Digest() {
		t.Fatalf("%v, %v", d, err)
	}
	img, err := remote.Image(ref(t, r, "app@"+image.Digest()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	idx, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	im, err := idx.IndexManifest()
	if err != nil || len(im.Manifests) != 1 || im.Manifests[0].Digest.String() != index.Digest() {
		t.Errorf("%+v, %v", im, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(raw), "blobs/sha256/"+strings.TrimPrefix(index.Digest(), "sha256:")) {
		t.Errorf("no index in the archive: %v", err)
	}
}
