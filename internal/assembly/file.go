package assembly

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A File is an index to be made of existing images, in the YAML of manifest-tool's
// from-spec.
type File struct {
	Image       string            `yaml:"image" doc:"name of the index"`
	Tags        []string          `yaml:"tags" doc:"additional tags of the index"`
	Annotations map[string]string `yaml:"annotations" doc:"annotations of the index"`
	Manifests   []FileItem        `yaml:"manifests" doc:"images of the index"`
}

// A FileItem is one image of the index. Its platform accepts the keys of
// manifest-tool (osversion, osfeatures) and those of image-spec (os.version,
// os.features), which mean the same.
type FileItem struct {
	Image    string `yaml:"image" doc:"name of the image"`
	Platform struct {
		OS             string   `yaml:"os" doc:"operating system"`
		Architecture   string   `yaml:"architecture" doc:"architecture, as Go names it"`
		Variant        string   `yaml:"variant" doc:"variant of the architecture"`
		OSVersion      string   `yaml:"osversion" doc:"version of the operating system"`
		OSFeatures     []string `yaml:"osfeatures" doc:"features of the operating system"`
		DottedVersion  string   `yaml:"os.version" doc:"the same as osversion"`
		DottedFeatures []string `yaml:"os.features" doc:"the same as osfeatures"`
	} `yaml:"platform" doc:"platform of the image; missing parts are read from its config"`
	Annotations map[string]string `yaml:"annotations" doc:"annotations of the image, in the index"`
}

var table = yamlconf.Describe[File]("", nil)

// Read reads the YAML of manifest-tool's from-spec; file is its name in errors.
// Unknown keys, duplicate keys and incomplete platforms are errors with file and line.
// All of them are reported at once, as a joined error of [*yamlconf.Problem]; if any is found by
// the decoder, the value is nil.
func Read(file string, data []byte) (*File, error) {
	a, lines, problems := table.Decode(file, data)
	if err := yamlconf.Join(file, problems); err != nil {
		return nil, err
	}
	var errs []error
	complain := func(key, format string, args ...any) {
		errs = append(errs, yamlconf.InFile(file, lines[key], key, fmt.Errorf(format, args...)))
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

// Item returns the image as an item of a [manifest.Assembly]. Without any platform key,
// the platform is zero, which means that of the image's config. It fails if the two
// spellings of a key disagree or the platform is invalid.
func (i FileItem) Item() (manifest.Item, error) {
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
