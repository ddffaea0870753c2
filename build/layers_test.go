package build

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	fixed "github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/manifest"
)

// based returns a base image with layers of these media types and this history.
func based(t *testing.T, history []v1.History, kinds ...types.MediaType) baseImage {
	t.Helper()
	f := baseImage{config: v1.ConfigFile{Architecture: "amd64", OS: "linux", History: history, RootFS: v1.RootFS{Type: "layers"}}}
	for i, kind := range kinds {
		l := fixed.NewLayer([]byte{byte(i)}, kind)
		d, err := manifest.Describe(l)
		if err != nil {
			t.Fatal(err)
		}
		f.layers, f.descriptors = append(f.layers, l), append(f.descriptors, d)
		f.config.RootFS.DiffIDs = append(f.config.RootFS.DiffIDs, d.Digest)
	}
	return f
}

// assembled returns the image of files and a program on f.
func assembled(t *testing.T, f baseImage, s Spec, os string) v1.Image {
	t.Helper()
	s.Name, s.Platforms = "program", []ocispec.Platform{{OS: os, Architecture: "amd64"}}
	s, err := s.Validate()
	if err != nil {
		t.Fatal(err)
	}
	w := newLayers(t, nil)
	var added []part
	for _, comment := range []string{"files", "program"} {
		l, err := w.Layer([]layerfile.Entry{layerfile.Inline(comment, 0o644, []byte(comment))})
		if err != nil {
			t.Fatal(err)
		}
		added = append(added, part{layer: l, comment: comment})
	}
	img, err := assemble(s, s.Platforms[0], f, added)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// An image has one history entry for each layer, whatever history the base image has.
func TestHistoryAndLayersAgree(t *testing.T) {
	told, empty := v1.History{CreatedBy: "base"}, v1.History{CreatedBy: "ENV", EmptyLayer: true}
	for name, history := range map[string][]v1.History{
		"none": nil, "whole": {told, empty, told}, "too few": {told}, "too many": {told, told, told}, "only empty": {empty, empty},
	} {
		for kinds := range 3 {
			f := based(t, history, slices.Repeat([]types.MediaType{types.OCILayer}, kinds)...)
			img := assembled(t, f, Spec{}, "linux")
			config, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			layers := 0
			for _, h := range config.History {
				if !h.EmptyLayer {
					layers++
				}
			}
			last := config.History[len(config.History)-2:]
			if layers != kinds+2 || len(config.RootFS.DiffIDs) != kinds+2 || last[0].Comment != "files" || last[1].Comment != "program" {
				t.Errorf("%s, with %d layers: %d layers in the history %+v", name, kinds, layers, config.History)
			}
			if name == "whole" && kinds == 2 && config.History[1] != empty {
				t.Errorf("a correct history was replaced: %+v", config.History)
			}
		}
	}
}

// The media types of added layers belong to the same family, OCI or Docker, as the base
// image.
func TestLayerTypes(t *testing.T) {
	f := based(t, nil, types.DockerLayer, manifest.DockerLayerZStd, types.OCILayerZStd)
	img := assembled(t, f, Spec{}, "linux")
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []types.MediaType{types.OCILayer, types.OCILayerZStd, types.OCILayerZStd} {
		if got := m.Layers[i].MediaType; got != want {
			t.Errorf("layer %d is %s, want %s", i, got, want)
		}
	}
	raw, err := img.RawManifest()
	if err != nil || strings.Contains(string(raw), "vnd.docker") {
		t.Errorf("%s, %v", raw, err)
	}
	for _, kind := range []types.MediaType{manifest.DockerLayerZStd, types.OCILayerZStd} {
		var se *SpecError
		if _, err := mediaType(kind, true); !errors.As(err, &se) {
			t.Errorf("%s in a Docker manifest: %v", kind, err)
		}
	}
}

// A variable occurs once in an image, even if the base image has it several times.
func TestVariablesOnce(t *testing.T) {
	f := based(t, nil, types.OCILayer)
	f.config.Config.Env = []string{"PATH=/a", "A=1", "PATH=/b", "A=2"}
	img := assembled(t, f, Spec{Config: Config{Env: []string{"A=3"}}}, "linux")
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/b:/mabuild", "A=3"}; !slices.Equal(config.Config.Env, want) {
		t.Errorf("%q, want %q", config.Config.Env, want)
	}
}

// An image for Windows sets no numeric user, since Windows has none.
func TestWindowsHasNoNumbers(t *testing.T) {
	for _, test := range []struct{ os, user string }{{"windows", ""}, {"linux", nonroot + ":" + nonroot}} {
		img := assembled(t, based(t, nil), Spec{Base: Scratch}, test.os)
		config, err := img.ConfigFile()
		if err != nil || config.Config.User != test.user {
			t.Errorf("%s: user %q, %v", test.os, config.Config.User, err)
		}
	}
}

// A name is refused if it would delete a file of the base image or could not be unpacked.
func TestNamesThatNoLayerCanHold(t *testing.T) {
	for name, want := range map[string]string{
		"etc/passwd": "", "a/.wh": "", "a/x.wh.y": "", "a/.whx": "", strings.Repeat("a", 255): "", "ü/ö": "",
		"etc/.wh.passwd": "delete files", ".wh..wh..opq": "delete files", ".wh.d/x": "delete files", strings.Repeat("a", 256): "has 256 bytes",
		strings.Repeat("a/", 2100): "has 4200 bytes", "a\xff": "not valid UTF-8",
	} {
		err := holdable(name, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	for name, fine := range map[string]bool{"app.exe": true, "a:b": false, "a.": false, "a/b ": false, "what?": false} {
		if err := holdable(name, true); (err == nil) != fine {
			t.Errorf("%q on Windows: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".wh.passwd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []File{{From: ".", To: "/etc"}, {From: ".wh.passwd", To: "/etc/"}, {From: ".wh.passwd", To: "/mabuild/.wh.x/y"}} {
		entries, err := fileEntries(Spec{Dir: dir, Files: []File{f}}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		var se *SpecError
		if _, err := addedLayers(&basefs.Reader{}, newLayers(t, nil), ocispec.Platform{OS: "linux", Architecture: "amd64"}, based(t, nil), []part{{comment: "files", entries: entries}}); !errors.As(err, &se) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// A Git LFS pointer among the files causes a warning.
func TestPointersOfLFS(t *testing.T) {
	dir := t.TempDir()
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
	for name, content := range map[string]string{"web/model.bin": pointer, "web/small": "version", "web/large": pointer + strings.Repeat("x", 2000)} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "web"), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var warned []string
	if _, err := fileEntries(Spec{Dir: dir, Files: []File{{From: "web", To: "/srv"}}}, func(text string) { warned = append(warned, text) }); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "/srv/model.bin is a Git LFS pointer") {
		t.Errorf("%q", warned)
	}
}
