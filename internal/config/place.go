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
	if isKeyFile(c.Sign) && !filepath.IsAbs(c.Sign) {
		c.Sign = filepath.Join(c.Dir, c.Sign)
	}
}

// The values of sign that are not the path of a key.
const (
	SignNone   = "none"
	SignCosign = "cosign"
	SignEnv    = "env://" // and the name of a variable
)

// SmokeOff is the value of smoke_run that starts nothing.
const SmokeOff = "off"

// cosignKey is the variable in which cosign's documentation keeps a key.
const cosignKey = "COSIGN_PRIVATE_KEY"

// isKeyFile reports whether a value of sign is a path.
func isKeyFile(text string) bool {
	return text != "" && text != SignNone && text != SignCosign && !strings.HasPrefix(text, SignEnv)
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

// splitImages splits text at commas, but not within quotes and not before platform=.
// Quotes remain in the items.
func splitImages(text string) (list []string) {
	from, quoted := 0, false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted && !strings.HasPrefix(text[i+1:], "platform="):
			list, from = append(list, text[from:i]), i+1
		}
	}
	return append(list, text[from:])
}

// imageAndPlatform splits PLATFORM=IMAGE. A local place such as oci:DIR may contain a =,
// so it is never split.
func imageAndPlatform(item string) (key, image string) {
	key, image, single := strings.Cut(item, "=")
	if !single || local.Is(item) {
		return everyPlatform, item
	}
	return key, image
}
