package platform

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Declared reads a platform that a user declares for an image. It is [Parse], except that
// what is not written stays empty, to be filled in from the image's config: linux/arm has no variant here, and linux/arm64/v8 keeps its variant.
func Declared(s string) (ocispec.Platform, error) {
	p, err := Parse(s)
	if err != nil {
		return p, err
	}
	_, arch, variant := words(s)
	switch {
	case variant == "" && strings.EqualFold(arch, "arm"):
		p.Variant = ""
	case variant != "" && p.Variant == "" && len(ladders[p.Architecture]) > 0:
		p.Variant = ladders[p.Architecture][0]
	}
	return p, nil
}

// words splits a platform as it is written, without its version: windows/amd64:10.0.17763
// gives windows, amd64 and "". Nothing is checked or normalised.
func words(s string) (operatingSystem, arch, variant string) {
	body, _, _ := strings.Cut(strings.TrimSpace(s), ":")
	operatingSystem, rest, _ := strings.Cut(body, "/")
	operatingSystem, _, _ = strings.Cut(operatingSystem, "(")
	arch, variant, _ = strings.Cut(rest, "/")
	return operatingSystem, arch, variant
}

// Fill replaces each OS, ARCH and VARIANT in a template by the words of a platform as
// they were typed. These are the placeholders of manifest-tool.
func Fill(template, typed string) string {
	operatingSystem, arch, variant := words(typed)
	return strings.NewReplacer("VARIANT", variant, "ARCH", arch, "OS", operatingSystem).Replace(template)
}

// Written returns os, architecture and variant of p as they are, if that is not the
// spelling of Go and the image specification, such as linux/x86_64 or linux/ARM64. For a
// canonical spelling it returns "". A default variant may be written or not: arm64 and
// arm64/v8 are both canonical.
func Written(p ocispec.Platform) string {
	n := Normalize(p)
	lowest := n.Variant == "" && len(ladders[n.Architecture]) > 0 && p.Variant == ladders[n.Architecture][0]
	text := p.OS + "/" + p.Architecture
	switch {
	case p.OS == n.OS && p.Architecture == n.Architecture && (p.Variant == "" || p.Variant == n.Variant || lowest):
		return ""
	case p.Variant != "":
		text += "/" + p.Variant
	}
	return text
}
