package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
)

// stores returns the two kinds of places that can be both read and written.
func stores(t *testing.T) map[string]interface {
	manifest.Source
	manifest.Sink
} {
	return map[string]interface {
		manifest.Source
		manifest.Sink
	}{
		FormLayout:  &ociLayout{Dir: filepath.Join(t.TempDir(), "new", "dir")},
		FormArchive: &ociArchive{File: filepath.Join(t.TempDir(), "a.tar")},
	}
}

// What is put under a name can be read under that name and by its digest, and replaces what
// had the name.
func TestRoundTrip(t *testing.T) {
	for form, s := range stores(t) {
		t.Run(form, func(t *testing.T) {
			first, second, other := makeIndex(t, "linux/amd64", "linux/arm/v7"), makeIndex(t, "linux/s390x"), makeImage(t, "linux/386", 2000)
			if _, err := s.Resolve(t.Context(), "app:v1"); !errors.Is(err, manifest.ErrNotFound) {
				t.Errorf("an empty place: %v", err)
			}
			put(t, s, "app:v1", first)
			is := func(ref string, want manifest.Content) {
				t.Helper()
				d, err := s.Resolve(t.Context(), ref)
				if err != nil || d.Digest != digestOf(t, want) {
					t.Errorf("%q is %s, %v; want %s", ref, d.Digest, err, digestOf(t, want))
				}
				c, err := s.Get(t.Context(), ref)
				if err != nil || digestOf(t, c) != digestOf(t, want) {
					t.Fatalf("%q: %v", ref, err)
				}
				switch c := c.(type) {
				case v1.ImageIndex:
					err = validate.Index(c)
				case v1.Image:
					err = validate.Image(c)
				}
				if err != nil {
					t.Errorf("%q: %v", ref, err)
				}
			}
			is("", first)
			is("v1", first)
			put(t, s, "other:v1", other)
			put(t, s, "app:v1", first) // a second time
			is("app:v1", first)
			is("other:v1", other)
			is("@"+digestOf(t, other).String(), other)
			child, err := first.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			img, err := first.Image(child.Manifests[1].Digest)
			if err != nil {
				t.Fatal(err)
			}
			is("@"+child.Manifests[1].Digest.String(), img)
			for ref, want := range map[string]string{"": "use one of :app:v1, :other:v1", "v1": fmt.Sprintf("use one of :app:v1@%s, :other:v1@%s", digestOf(t, first), digestOf(t, other)), "v2": "available images: :app:v1, :other:v1"} {
				if _, err := s.Get(t.Context(), ref); strings.ReplaceAll(hintOf(err), fmt.Sprint(s), "") != want || errors.Is(err, manifest.ErrNotFound) != (ref == "v2") {
					t.Errorf("%q: %v, hint %q", ref, err, hintOf(err))
				}
			}
			put(t, s, "app:v1", second)
			is("app:v1", second)
			is("other:v1", other)
		})
	}
}

// go-containerregistry can read our layouts, and we can read the layouts that it writes.
func TestLayoutForOthers(t *testing.T) {
	l := &ociLayout{Dir: t.TempDir()}
	mine := makeIndex(t, "linux/amd64", "linux/arm64")
	put(t, l, "v1", mine)
	theirs, err := layout.FromPath(l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	idx, err := theirs.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
	img := makeImage(t, "linux/386", 100)
	if err := theirs.AppendImage(img, layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "v2"})); err != nil {
		t.Fatal(err)
	}
	put(t, l, "v3", mine)
	c, err := l.Get(t.Context(), "v2")
	if err != nil || digestOf(t, c) != digestOf(t, img) {
		t.Errorf("%v, %v", c, err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.Dir, temp+"*")); len(left) > 0 {
		t.Errorf("leftover files: %v", left)
	}
}

// An index may be put into a layout without the images that the layout already has.
func TestChildInTarget(t *testing.T) {
	for form, s := range stores(t) {
		full := makeIndex(t, "linux/amd64", "linux/arm64")
		im, err := full.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		sparse, err := manifest.Index([]manifest.Child{{Descriptor: im.Manifests[1]}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Put(t.Context(), "one", sparse); err == nil {
			t.Errorf("%s: an index without its image was stored", form)
		}
		if _, err := s.Resolve(t.Context(), "one"); err == nil {
			t.Errorf("%s: an index without its image has a name", form)
		}
		put(t, s, "all", full)
		if form == FormLayout { // an archive keeps only what its entries reach
			put(t, s, "one", sparse)
			c, err := s.Get(t.Context(), "one")
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(c.(v1.ImageIndex)); err != nil {
				t.Error(err)
			}
		}
	}
}

// brokenImage has a layer that fails when it is read, or has other content.
type brokenImage struct {
	v1.Image
	read func() (io.ReadCloser, error)
}

func (b brokenImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := b.Image.LayerByDigest(h)
	return brokenLayer{l, b.read}, err
}

type brokenLayer struct {
	v1.Layer
	read func() (io.ReadCloser, error)
}

func (b brokenLayer) Compressed() (io.ReadCloser, error) { return b.read() }

// A failed Put does not change the reference and leaves no file.
func TestFailedPut(t *testing.T) {
	lost := errors.New("connection lost")
	for name, test := range map[string]struct {
		read func() (io.ReadCloser, error)
		want error
	}{
		"unreadable layer": {func() (io.ReadCloser, error) { return nil, lost }, lost},
		"other bytes":      {func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }, manifest.ErrMismatch},
		"cut": {func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("x"), failing{lost})), nil
		}, lost},
	} {
		for form, s := range stores(t) {
			before := makeImage(t, "linux/amd64", 100)
			put(t, s, "v1", before)
			if err := s.Put(t.Context(), "v1", brokenImage{makeImage(t, "linux/amd64", 3000), test.read}); !errors.Is(err, test.want) {
				t.Errorf("%s, %s: %v", form, name, err)
			}
			if d, err := s.Resolve(t.Context(), "v1"); err != nil || d.Digest != digestOf(t, before) {
				t.Errorf("%s, %s: v1 is %v, %v", form, name, d.Digest, err)
			}
			if left, _ := filepath.Glob(filepath.Join(place(s), temp+"*")); len(left) > 0 {
				t.Errorf("%s, %s: left behind: %v", form, name, left)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// place returns the directory in which s creates files.
func place(s any) string {
	switch s := s.(type) {
	case *ociLayout:
		return s.Dir
	case *ociArchive:
		return filepath.Dir(s.File)
	}
	return ""
}

// A damaged blob in a layout is stored again.
func TestHeal(t *testing.T) {
	dir := t.TempDir()
	img := makeImage(t, "linux/amd64", 100)
	put(t, &ociLayout{Dir: dir}, "v1", img)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.FromSlash(blobPath(m.Layers[0].Digest)))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] ^= 1
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, &ociLayout{Dir: dir}, "v1", img)
	c, err := (&ociLayout{Dir: dir}).Get(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(c.(v1.Image)); err != nil {
		t.Error(err)
	}
}

// A layout is not written into a directory with other files.
func TestNoLayout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := (&ociLayout{Dir: dir}).Put(t.Context(), "v1", makeImage(t, "linux/amd64", 10))
	if err == nil || hintOf(err) == "" {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the directory has %v", entries)
	}
}

// Fields that other tools write into index.json are kept.
func TestForeignFields(t *testing.T) {
	dir := t.TempDir()
	l := &ociLayout{Dir: dir}
	put(t, l, "v1", makeImage(t, "linux/amd64", 10))
	path := filepath.Join(dir, ocispec.ImageIndexFile)
	edit(t, path, func(m map[string]any) {
		m["annotations"] = map[string]any{"a": "b"}
		first := m["manifests"].([]any)[0].(map[string]any)
		first["artifactType"], first["urls"] = "application/x", []any{"https://example.com"}
	})
	put(t, l, "v2", makeImage(t, "linux/amd64", 10))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"a": "b"`, `"application/x"`, `"https://example.com"`, `"v2"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in\n%s", want, raw)
		}
	}
}

// edit changes a JSON file.
func edit(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A layout with links, as a checkout may contain one, is not written at the links' targets.
func TestLayoutsAreNotWrittenThroughLinks(t *testing.T) {
	for _, part := range []string{"blobs", "blobs/sha256", "index.json"} {
		dir, victim := t.TempDir(), t.TempDir()
		l := &ociLayout{Dir: dir}
		if err := l.Put(t.Context(), "v1", empty.Index); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, part)), os.Symlink(victim, filepath.Join(dir, part))); err != nil {
			t.Fatal(err)
		}
		if err := l.Put(t.Context(), "v2", empty.Index); err == nil {
			t.Errorf("the target of the link %s was written", part)
		}
		if files, err := os.ReadDir(victim); err != nil || len(files) > 0 {
			t.Errorf("%s: %v, %v", part, files, err)
		}
	}
}
