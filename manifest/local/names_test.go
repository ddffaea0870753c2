//go:build !windows

package local

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// rename changes the annotations of index.json with f, as other tools write them.
func rename(t *testing.T, dir string, f func(n int, e *ocispec.Descriptor)) {
	t.Helper()
	file := filepath.Join(dir, ocispec.ImageIndexFile)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	im, err := parseIndex(raw)
	if err != nil {
		t.Fatal(err)
	}
	for n := range im.Manifests {
		f(n, &im.Manifests[n])
	}
	if raw, err = json.Marshal(im); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// An image can be read by containerd's full name, by the name of the specification, which
// is its tag if there is a full name, and by its digest. A name of several images is an
// error that lists them.
func TestNamesOfOthers(t *testing.T) {
	names := []struct{ full, ref string }{
		{"ghcr.io/acme/one:v1", "v1"},
		{"docker.io/library/two:v1", "v1"},
		{"localhost:5000/three:v3", "v3"},
		{"", "same"},
		{"", "same"},
		{"", "plain:v9"},
		{"docker.io/library/four@" + someDigest, "@" + someDigest},
		{"", ""},
	}
	l := &ociLayout{Dir: t.TempDir()}
	images := make([]v1.Image, len(names))
	for i := range names {
		images[i] = makeImage(t, "linux/amd64", int64(100+i))
		put(t, l, fmt.Sprintf("n%d", i), images[i])
	}
	put(t, l, "n8", images[2]) // a second name of the image
	rename(t, l.Dir, func(n int, e *ocispec.Descriptor) {
		one := struct{ full, ref string }{"ghcr.io/acme/three:v3", "v3"}
		if n < len(names) {
			one = names[n]
		}
		e.Annotations = map[string]string{annotationImageName: one.full, ocispec.AnnotationRefName: one.ref}
		maps.DeleteFunc(e.Annotations, func(_, text string) bool { return text == "" })
	})
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, pack(t, l.Dir), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(i int) string { return "@" + digestOf(t, images[i]).String() }
	for form, s := range map[string]interface {
		manifest.Source
		Images(ctx context.Context, ref string) ([]Holding, error)
	}{"layout": l, "archive": &ociArchive{File: file}} {
		for ref, want := range map[string]int{
			"ghcr.io/acme/one:v1": 0, "docker.io/library/two:v1": 1, "two:v1": 1, "index.docker.io/library/two:v1": 1,
			"v3": 2, "localhost:5000/three:v3": 2, "ghcr.io/acme/three:v3": 2, "v9": 5, "plain:v9": 5,
			`"docker.io/library/four@` + someDigest + `"`: 6, "same" + at(4): 4, "v1" + at(1): 1, at(7): 7,
		} {
			d, err := s.Resolve(t.Context(), ref)
			if err != nil || d.Digest != digestOf(t, images[want]) {
				t.Errorf("%s: %s is %s, %v; want %d", form, ref, d.Digest, err, want)
			}
			held, err := s.Images(t.Context(), ref)
			if err != nil || len(held) != 1 || held[0].Digest != d.Digest {
				t.Errorf("%s: %s is %v, %v", form, ref, held, err)
			}
		}
		for ref, want := range map[string][]string{
			"v1":   {":docker.io/library/two:v1" + at(1), ":ghcr.io/acme/one:v1" + at(0)},
			"same": {":same" + at(3), ":same" + at(4)},
			"": {
				":docker.io/library/two:v1", `:"docker.io/library/four@` + someDigest + `"`, ":ghcr.io/acme/one:v1", ":ghcr.io/acme/three:v3",
				":localhost:5000/three:v3", ":plain:v9", ":same" + at(3), ":same" + at(4), at(7),
			},
		} {
			_, err := s.Resolve(t.Context(), ref)
			several := (*SeveralError)(nil)
			if !errors.As(err, &several) {
				t.Errorf("%s: %q: %v", form, ref, err)
				continue
			}
			var got []string
			for _, one := range several.Images {
				got = append(got, strings.TrimPrefix(one, several.Place))
				if p, err := Parse(one); err != nil {
					t.Errorf("%s: %v", one, err)
				} else if _, err := s.Resolve(t.Context(), p.Ref()); err != nil {
					t.Errorf("%s: %v", one, err)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q: %q, want %q", form, ref, got, want)
			}
		}
		for _, ref := range []string{"one", "three:v1", "v1" + at(5), at(0) + "0", "acme/one:v1"} {
			if d, err := s.Resolve(t.Context(), ref); err == nil {
				t.Errorf("%s: %s is %s", form, ref, d.Digest)
			}
		}
		if all, err := s.Images(t.Context(), ""); err != nil || len(all) != 9 {
			t.Errorf("%s: %v, %v", form, all, err)
		}
	}

	// Put replaces the image that has the name.
	fresh := makeImage(t, "linux/amd64", 300)
	for _, name := range []string{"docker.io/library/two:v1", "two:v1", "v1"} {
		put(t, l, name, fresh)
		if d, err := l.Resolve(t.Context(), name); err != nil || d.Digest != digestOf(t, fresh) {
			t.Errorf("%s is %s, %v", name, d.Digest, err)
		}
	}
	if d, err := l.Resolve(t.Context(), "ghcr.io/acme/one:v1"); err != nil || d.Digest != digestOf(t, images[0]) {
		t.Errorf("ghcr.io/acme/one:v1 is %s, %v", d.Digest, err)
	}
	if all, err := l.Images(t.Context(), ""); err != nil || len(all) != 10 {
		t.Errorf("%v, %v", all, err)
	}
}

// merge joins the content of Docker archives, as docker save writes several images.
func merge(t *testing.T, tags [][]string, images ...v1.Image) string {
	t.Helper()
	var list []savedImage
	files := map[string][]byte{}
	for n, img := range images {
		file := filepath.Join(t.TempDir(), "one.tar")
		put(t, &dockerArchive{File: file}, "one:v1", img)
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		in := tar.NewReader(bytes.NewReader(raw))
		for h, err := in.Next(); err == nil; h, err = in.Next() {
			var b bytes.Buffer
			if _, err := b.ReadFrom(in); err != nil {
				t.Fatal(err)
			}
			files[h.Name] = b.Bytes()
		}
		var one []savedImage
		if err := json.Unmarshal(files["manifest.json"], &one); err != nil {
			t.Fatal(err)
		}
		one[0].RepoTags = tags[n]
		list = append(list, one...)
	}
	var err error
	if files["manifest.json"], err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, raw := range files {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(raw))}), write(w, string(raw))); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	if err := errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

// Each image is found by each of its names, and an image without a name by its digest.
func TestDockerArchiveOfSeveral(t *testing.T) {
	a := &dockerArchive{File: merge(t, [][]string{{"ghcr.io/acme/one:v1", "one:v2"}, {"two:v1"}, nil},
		makeImage(t, "linux/amd64", 100), makeImage(t, "linux/amd64", 200), makeImage(t, "linux/arm64", 300))}
	all, err := a.Images(t.Context(), "")
	if err != nil || len(all) != 4 {
		t.Fatalf("%v, %v", all, err)
	}
	digest := map[string]v1.Hash{}
	for _, one := range all {
		digest[one.Name] = one.Digest
	}
	if digest["ghcr.io/acme/one:v1"] != digest["one:v2"] || digest["two:v1"] == digest["one:v2"] {
		t.Errorf("%v", all)
	}
	for ref, want := range map[string]string{
		"ghcr.io/acme/one:v1": "one:v2", "one:v2": "one:v2", "v2": "one:v2", "docker.io/library/one:v2": "one:v2", "docker.io/two:v1": "two:v1",
		"v1@" + digest["two:v1"].String(): "two:v1", "@" + digest[""].String(): "",
	} {
		d, err := a.Resolve(t.Context(), ref)
		if err != nil || d.Digest != digest[want] {
			t.Errorf("%s is %s, %v; want %s", ref, d.Digest, err, digest[want])
		}
		if held, err := a.Images(t.Context(), ref); err != nil || len(held) != 1 || held[0].Digest != d.Digest {
			t.Errorf("%s is %v, %v", ref, held, err)
		}
	}
	for ref, want := range map[string]string{
		"":   ":ghcr.io/acme/one:v1, :one:v2, :two:v1",
		"v1": ":ghcr.io/acme/one:v1@" + digest["one:v2"].String() + ", :one:v2@" + digest["one:v2"].String() + ", :two:v1@" + digest["two:v1"].String(),
	} {
		_, err := a.Resolve(t.Context(), ref)
		if hint := strings.ReplaceAll(hintOf(err), a.String(), ""); hint != "use one of "+want {
			t.Errorf("%q: %v, hint %q", ref, err, hint)
		}
	}
}

// If a layout lacks images of an index, as an export of one platform does, the hint lists
// the complete platforms.
func TestSparse(t *testing.T) {
	idx := makeIndex(t, "linux/amd64", "linux/arm64", "linux/s390x")
	im, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(im.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for missing, d := range map[string]v1.Descriptor{"manifest": im.Manifests[1], "config": m.Config, "layer": m.Layers[1]} {
		l := &ociLayout{Dir: t.TempDir()}
		put(t, l, "app:v1", idx)
		if err := os.Remove(filepath.Join(l.Dir, "blobs", d.Digest.Algorithm, d.Digest.Hex)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(file, pack(t, l.Dir), 0o600); err != nil {
			t.Fatal(err)
		}
		for form, s := range map[string]manifest.Source{"layout": &ociLayout{Dir: l.Dir}, "archive": &ociArchive{File: file}} {
			err := use(t, s)
			if !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), d.Digest.String()+" is missing") ||
				completeIn(err) != "linux/amd64, linux/s390x" {
				t.Errorf("%s without a %s: %v, complete %q", form, missing, err, completeIn(err))
			}
		}
	}
}

// completeIn returns the complete platforms in an [AbsentError].
func completeIn(err error) string {
	var absent *AbsentError
	if !errors.As(err, &absent) {
		return ""
	}
	return platform.Keys(absent.Complete)
}
