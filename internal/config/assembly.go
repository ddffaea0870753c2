package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// An Assembly is an index to be made of existing images, as manifest-tool's YAML
// describes it.
type Assembly struct {
	Image       string            `yaml:"image" doc:"name of the index"`
	Tags        []string          `yaml:"tags" doc:"additional tags of the index"`
	Annotations map[string]string `yaml:"annotations" doc:"annotations of the index"`
	Manifests   []AssemblyItem    `yaml:"manifests" doc:"images of the index"`
}

// An AssemblyItem is one of the images.
type AssemblyItem struct {
	Image       string            `yaml:"image" doc:"name of the image"`
	Platform    AssemblyPlatform  `yaml:"platform" doc:"platform of the image; missing parts are read from its config"`
	Annotations map[string]string `yaml:"annotations" doc:"annotations of the image, in the index"`
}

// An AssemblyPlatform is a platform in the words of manifest-tool, which writes
// osversion and osfeatures, and of the specification.
type AssemblyPlatform struct {
	OS             string   `yaml:"os" doc:"operating system"`
	Architecture   string   `yaml:"architecture" doc:"architecture, as Go names it"`
	Variant        string   `yaml:"variant" doc:"variant of the architecture"`
	OSVersion      string   `yaml:"osversion" doc:"version of the operating system"`
	OSFeatures     []string `yaml:"osfeatures" doc:"features of the operating system"`
	DottedVersion  string   `yaml:"os.version" doc:"the same as osversion"`
	DottedFeatures []string `yaml:"os.features" doc:"the same as osfeatures"`
}

// ReadAssembly reads the YAML of manifest-tool's from-spec. Unknown keys, keys
// twice and half a platform are errors with file and line, all of them at once.
func ReadAssembly(file string, data []byte) (*Assembly, error) {
	a, lines, err := decode[Assembly](file, data)
	if err != nil {
		return nil, err
	}
	var errs []error
	complain := func(key, format string, args ...any) {
		errs = append(errs, &Problem{Origin: Origin{Kind: FromFile, Name: file, Line: lines[key]}, Key: key, Err: fmt.Errorf(format, args...)})
	}
	if a.Image == "" {
		complain("image", "missing; it is the name of the index")
	}
	if len(a.Manifests) == 0 {
		complain("manifests", "missing; it lists the images")
	}
	for i := range a.Manifests {
		at := fmt.Sprintf("manifests[%d]", i)
		if a.Manifests[i].Image == "" {
			complain(at, "image is missing")
		}
		if _, err := a.Manifests[i].Item(); err != nil {
			complain(at+".platform", "%w", err)
		}
	}
	return a, errors.Join(errs...)
}

// Item returns the image as it is to be taken.
func (i AssemblyItem) Item() (manifest.Item, error) {
	item := manifest.Item{Ref: i.Image, Annotations: i.Annotations}
	p := i.Platform
	version, features := p.OSVersion, p.OSFeatures
	switch {
	case version == "":
		version = p.DottedVersion
	case p.DottedVersion != "" && p.DottedVersion != version:
		return item, errors.New("osversion and os.version differ")
	}
	switch {
	case len(features) == 0:
		features = p.DottedFeatures
	case len(p.DottedFeatures) > 0 && !slices.Equal(features, p.DottedFeatures):
		return item, errors.New("osfeatures and os.features differ")
	}
	if p.OS == "" && p.Architecture == "" && p.Variant == "" && version == "" && len(features) == 0 {
		return item, nil
	}
	text := strings.TrimRight(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
	declared, err := platform.Declared(text)
	declared.OSVersion, declared.OSFeatures = version, features
	item.Platform = declared
	return item, err
}
