package assembly

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Both spellings of os.version have the same meaning, and a missing field stays empty.
func TestRead(t *testing.T) {
	for _, version := range []string{"osversion: '10.0'", "os.version: '10.0'", "os.version: '10.0', osversion: '10.0'"} {
		a, err := Read("a.yaml", []byte("image: a\nannotations: {k.l: v=w, n: 1}\nmanifests: [{image: b, platform: {os: windows, architecture: amd64, "+version+", os.features: [x]}}, {image: c}]\n"))
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		item, err := a.Manifests[0].Item()
		if err != nil || platform.Key(item.Platform) != "windows/amd64:10.0+x" || a.Annotations["k.l"] != "v=w" || a.Annotations["n"] != "1" {
			t.Errorf("%s: %+v, %v", version, a, err)
		}
		if item, err := a.Manifests[1].Item(); err != nil || item.Platform.OS != "" {
			t.Errorf("%+v, %v", item, err)
		}
	}
}

// All errors are reported at once, each with its line.
func TestReadAssemblyComplains(t *testing.T) {
	for text, want := range map[string][]string{
		"":             {"image: missing; it is the name of the index", "manifests: missing; it lists the images"},
		"image: [a]\n": {"a.yaml:1: image: must be a string"},
		"image: a\nmanifests:\n  - platform: {os: linux, architecture: amd64}\n  - image: x\n    platform: {os: linux, variant: v7}\n": {
			"a.yaml:3: manifests[0]: image is missing", "a.yaml:5: manifests[1].platform: platform",
		},
		"image: a\nmanifests:\n  - image: x\n    platform: {osfeatures: [a], os.features: [b], features: [c]}\n": {"a.yaml:4: manifests[0].platform.features: unknown key"},
		"image: a\nannotations: {a: {b: c}}\nmanifests: [{image: x}]\n":                                          {"a.yaml:2: annotations.a: must be a string"},
		"image: a\nannotations: {a: \"\\e[2J\"}\nmanifests: [{image: x}]\n":                                      {"a.yaml:2: annotations: ", "control character"},
		"image: a\nimage: b\n": {"a.yaml:2: image: duplicate of line 1"},
		"- a\n":                {"a.yaml:1: must be a mapping of keys to values"},
	} {
		_, err := Read("a.yaml", []byte(text))
		for _, w := range want {
			if !strings.Contains(fmt.Sprint(err), w) {
				t.Errorf("%q: %v\ndoes not contain %q", text, err, w)
			}
		}
	}
}
