package local

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
)

// An archive that we write for docker load can be read completely.
func TestDockerArchiveIsASource(t *testing.T) {
	img, err := random.Image(300, 3, random.WithSource(regtest.Source(t)))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	a := &dockerArchive{File: file}
	if err := a.Put(t.Context(), "acme/app:v1", img); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"", "acme/app:v1", "v1"} {
		c, err := a.Get(t.Context(), ref)
		if err != nil {
			t.Errorf("%q: %v", ref, err)
			continue
		}
		if err := validate.Image(c.(v1.Image)); err != nil {
			t.Errorf("%q: %v", ref, err)
		}
		d, err := a.Resolve(t.Context(), ref)
		if is, _ := c.Digest(); err != nil || is != d.Digest {
			t.Errorf("%q: %v against %v, %v", ref, d, is, err)
		}
	}
	for _, ref := range []string{"v2", "app:v1x"} {
		if _, err := a.Get(t.Context(), ref); !errors.Is(err, manifest.ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := (&dockerArchive{File: file + "x"}).Get(t.Context(), ""); !errors.Is(err, manifest.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
}

// The media type of a layer is determined by its first bytes.
func TestDockerArchiveTypes(t *testing.T) {
	for first, want := range map[string]types.MediaType{
		"\x1f\x8b\x08\x00": types.DockerLayer, "\x28\xb5\x2f\xfd": manifest.DockerLayerZStd, "./etc": types.DockerUncompressedLayer, "": types.DockerUncompressedLayer,
	} {
		file := filepath.Join(t.TempDir(), "layer")
		if err := os.WriteFile(file, []byte(first), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := describeFile(t.Context(), &tarFile{file: file}, extent{0, int64(len(first))}); err != nil || d.MediaType != want || d.Size != int64(len(first)) {
			t.Errorf("%q: %v, %v; want %s", first, d, err, want)
		}
	}
}

// Links in an archive of docker save, of either kind, are followed. A link to nothing, to
// itself or out of the archive is ignored.
func TestDockerArchiveOfLinks(t *testing.T) {
	img, err := random.Image(300, 3, random.WithSource(regtest.Source(t)))
	if err != nil {
		t.Fatal(err)
	}
	var plain, linked bytes.Buffer
	if err := (&dockerArchive{Out: &plain}).Put(t.Context(), "acme/app:v1", img); err != nil {
		t.Fatal(err)
	}
	in, out := tar.NewReader(&plain), tar.NewWriter(&linked)
	var errs []error
	kinds := []tar.Header{{Typeflag: tar.TypeLink, Linkname: "data/"}, {Typeflag: tar.TypeSymlink, Linkname: "./data/"}}
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		link := kinds[n%2]
		link.Name, link.Linkname = h.Name, fmt.Sprint(link.Linkname, n)
		h.Name = fmt.Sprint("data/", n)
		errs = append(errs, out.WriteHeader(&link), out.WriteHeader(h))
		_, err = io.Copy(out, in)
		errs = append(errs, err)
	}
	for name, to := range map[string]string{"itself": "itself", "nowhere": "there/is/none", "out": "../../etc/passwd", "root": "/etc/passwd"} {
		errs = append(errs, out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}))
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := errors.Join(append(errs, out.Close(), os.WriteFile(file, linked.Bytes(), 0o600))...); err != nil {
		t.Fatal(err)
	}
	c, err := (&dockerArchive{File: file}).Get(t.Context(), "acme/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(c.(v1.Image)); err != nil {
		t.Error(err)
	}
}

// An invalid archive is an error that names the problem.
func TestInvalidDockerArchives(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no manifest":        {map[string]string{"x": "y"}, "not a Docker archive"},
		"not JSON":           {map[string]string{"manifest.json": "{"}, "manifest.json"},
		"nothing":            {map[string]string{"manifest.json": "[]"}, "contains no image"},
		"two":                {map[string]string{"manifest.json": `[{"Config":"a"},{"Config":"b"}]`}, "contains 2 images"},
		"missing":            {map[string]string{"manifest.json": `[{"Config":"a"}]`}, `"a" is missing`},
		"outside":            {map[string]string{"manifest.json": `[{"Config":"../../etc/passwd"}]`}, "is missing"},
		"config too big":     {map[string]string{"manifest.json": `[{"Config":"a"}]`, "a": strings.Repeat(" ", maxManifest+1)}, "bytes"},
		"config is not JSON": {map[string]string{"manifest.json": `[{"Config":"a"}]`, "a": "nonsense"}, ""},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for file, text := range c.files {
			if err := errors.Join(w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(text))}), write(w, text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		c2, err := (&dockerArchive{File: file}).Get(t.Context(), "")
		if err == nil {
			_, err = c2.(v1.Image).ConfigFile()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func write(w *tar.Writer, text string) error {
	_, err := w.Write([]byte(text))
	return err
}
