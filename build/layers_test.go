package build

import (
	"errors"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	fixed "github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/manifest"
)

// based returns a base image with layers of these media types and this history.
func based(t *testing.T, history []v1.History, kinds ...types.MediaType) baseimage.Image {
	t.Helper()
	f := baseimage.Image{Config: v1.ConfigFile{Architecture: "amd64", OS: "linux", History: history, RootFS: v1.RootFS{Type: "layers"}}}
	for i, kind := range kinds {
		l := fixed.NewLayer([]byte{byte(i)}, kind)
		d, err := manifest.Describe(l)
		if err != nil {
			t.Fatal(err)
		}
		f.Layers, f.Descriptors = append(f.Layers, l), append(f.Descriptors, d)
		f.Config.RootFS.DiffIDs = append(f.Config.RootFS.DiffIDs, d.Digest)
	}
	return f
}

// assembled returns the image of files and a program on f.
func assembled(t *testing.T, f baseimage.Image, s Spec, os string) v1.Image {
	t.Helper()
	s.Name, s.Platforms = "program", []ocispec.Platform{{OS: os, Architecture: "amd64"}}
	s, err := s.Validate()
	if err != nil {
		t.Fatal(err)
	}
	w := newLayers(t, nil)
	var added []placement.Part
	for _, comment := range []string{"files", "program"} {
		l, err := w.Layer([]layerfile.Entry{layerfile.Inline(comment, 0o644, []byte(comment))})
		if err != nil {
			t.Fatal(err)
		}
		added = append(added, placement.Part{Layer: l, Comment: comment})
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
	f.Config.Config.Env = []string{"PATH=/a", "A=1", "PATH=/b", "A=2"}
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
	for _, test := range []struct{ os, user string }{{"windows", ""}, {"linux", baseimage.Nonroot + ":" + baseimage.Nonroot}} {
		img := assembled(t, based(t, nil), Spec{Base: Scratch}, test.os)
		config, err := img.ConfigFile()
		if err != nil || config.Config.User != test.user {
			t.Errorf("%s: user %q, %v", test.os, config.Config.User, err)
		}
	}
}
