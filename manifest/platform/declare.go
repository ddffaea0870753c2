package platform

import (
	"cmp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Declared reads a platform that a person declares of an image. It is [Parse],
// but what is not written stays empty, to be filled in by what the image says of
// itself: linux/arm has no variant here, and linux/arm64/v8 keeps its own.
func Declared(s string) (ocispec.Platform, error) {
	p, err := Parse(s)
	if err != nil {
		return p, err
	}
	_, arch, variant := Words(s)
	switch {
	case variant == "" && strings.EqualFold(arch, "arm"):
		p.Variant = ""
	case variant != "" && p.Variant == "" && len(ladders[p.Architecture]) > 0:
		p.Variant = ladders[p.Architecture][0]
	}
	return p, nil
}

// Words takes a platform apart as it is written, without its version: windows,
// amd64 and nothing of windows/amd64:10.0.17763.
func Words(s string) (operatingSystem, arch, variant string) {
	body, _, _ := strings.Cut(strings.TrimSpace(s), ":")
	operatingSystem, rest, _ := strings.Cut(body, "/")
	operatingSystem, _, _ = strings.Cut(operatingSystem, "(")
	arch, variant, _ = strings.Cut(rest, "/")
	return operatingSystem, arch, variant
}

// Fill replaces every OS, ARCH and VARIANT of a template by the words of a
// platform, as they were typed: manifest-tool's placeholders.
func Fill(template, typed string) string {
	operatingSystem, arch, variant := Words(typed)
	return strings.NewReplacer("VARIANT", variant, "ARCH", arch, "OS", operatingSystem).Replace(template)
}

// Reconcile puts together what is declared of an image and what its config says,
// neither in normal form. What is declared wins; a field that one of them leaves
// empty is the other's. agree is false when both name a field and mean something
// else by it.
//
// p is in normal form but for the variant: one that nobody names stays empty, and
// where both mean the same it is spelled as in the config, which tools compare by
// its letters.
func Reconcile(declared, config ocispec.Platform) (p ocispec.Platform, agree bool) {
	d, c := declared, config
	Complete(&d, config)
	Complete(&c, declared)
	p = Normalize(d)
	switch same := p.Variant == Normalize(c).Variant; {
	case d.Variant == "":
		p.Variant = ""
	case same && config.Variant != "":
		p.Variant = config.Variant
	}
	return p, Key(d) == Key(c)
}

// Complete fills in the fields of p that are empty.
func Complete(p *ocispec.Platform, from ocispec.Platform) {
	p.OS, p.Architecture = cmp.Or(p.OS, from.OS), cmp.Or(p.Architecture, from.Architecture)
	p.Variant, p.OSVersion = cmp.Or(p.Variant, from.Variant), cmp.Or(p.OSVersion, from.OSVersion)
	if len(p.OSFeatures) == 0 {
		p.OSFeatures = from.OSFeatures
	}
}

// Canonical reports whether os, architecture and variant of p are written as the field
// writes them. That leaves open whether the variant that goes without saying is written:
// arm64 and arm64/v8 both are canonical, x86_64 and ARM64 are not.
func Canonical(p ocispec.Platform) bool {
	n := Normalize(p)
	lowest := n.Variant == "" && len(ladders[n.Architecture]) > 0 && p.Variant == ladders[n.Architecture][0]
	return p.OS == n.OS && p.Architecture == n.Architecture && (p.Variant == "" || p.Variant == n.Variant || lowest)
}

// Text writes os, architecture and variant of p as they are.
func Text(p ocispec.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}
