package config

import (
	"path/filepath"
	"strings"

	"github.com/mabuild/mabuild/manifest/local"
)

// anchorPlaces makes the paths of local places among settings relative to the working
// directory: those of base images and outputs.
func anchorPlaces(c *Config) {
	of := func(s *Settings) {
		for key, text := range s.Base {
			s.Base[key] = AnchorPlace(c.Dir, text)
		}
	}
	of(&c.Settings)
	for i := range c.Builds {
		of(&c.Builds[i].Settings)
	}
	for i, text := range c.Output {
		c.Output[i] = AnchorPlace(c.Dir, text)
	}
}

// AnchorPlace makes the path of a local place relative to dir. Other texts are returned
// unchanged, including references to registries, daemons and standard output.
func AnchorPlace(dir, text string) string {
	p, err := local.Parse(text)
	if err != nil || p.Path == local.Stdout {
		return text
	}
	switch p.Form {
	case local.FormLayout, local.FormArchive, local.FormDockerArchive:
	default:
		return text
	}
	switch {
	case filepath.IsAbs(p.Path):
		// As in Table.Anchor, .. is removed by its text.
		p.Path = filepath.Clean(p.Path)
	case dir == "." && !strings.Contains(p.Path, ".."):
		return text
	default:
		p.Path = filepath.Join(dir, p.Path)
	}
	return p.String()
}
