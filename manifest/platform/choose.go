package platform

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unordered is the rank of a variant that no order is known for.
const unordered = -1

// ladders lists, lowest first, the variants of the architectures whose variants
// build on each other.
var ladders = map[string][]string{
	"amd64":   {"v1", "v2", "v3", "v4"},
	"arm":     {"v5", "v6", "v7", "v8"},
	"arm64":   {"v8", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9", "v9", "v9.1", "v9.2", "v9.3", "v9.4", "v9.5"},
	"ppc64":   {"power8", "power9", "power10"},
	"ppc64le": {"power8", "power9", "power10"},
	"riscv64": {"rva20u64", "rva22u64", "rva23u64"},
}

// rank places the variant on its architecture's ladder; no variant counts as the
// lowest. It wants a normalised platform.
func rank(p ocispec.Platform) int {
	if p.Variant == "" {
		return 0
	}
	return slices.Index(ladders[p.Architecture], p.Variant)
}

// Choose returns the position in have of the platform to run want on: the same
// os and architecture, and the highest variant that is not above the wanted one
// (none counts as the lowest, arm without a variant as v7). A variant that is on
// no known ladder matches only itself.
//
// A wanted os.version selects a version equal to it or beginning with it at a
// dot; without one the highest version wins, as does the first of several
// equals. Wanted os.features must all be there. What needs a feature or a version
// that is not wanted never wins over what needs none. ok is false when nothing fits.
func Choose(want ocispec.Platform, have []ocispec.Platform) (at int, ok bool) {
	want = Normalize(want)
	best := ocispec.Platform{}
	for i, candidate := range have {
		candidate = Normalize(candidate)
		if !runsOn(candidate, want) {
			continue
		}
		better := cmp.Or(
			cmp.Compare(needs(best, want), needs(candidate, want)),
			cmp.Compare(rank(candidate), rank(best)),
			compareVersions(candidate.OSVersion, best.OSVersion),
		) > 0
		if !ok || better {
			at, ok, best = i, true, candidate
		}
	}
	return at, ok
}

// All returns the positions in have of all that want names, which is more than one
// where have has several versions of it, or doubles: the same os, architecture and
// variant, version and features as [Choose] has them. What needs a feature that is not
// wanted is among them only where nothing of its version does without.
func All(want ocispec.Platform, have []ocispec.Platform) (at []int) {
	want = Normalize(want)
	for i, p := range have {
		if p = Normalize(p); p.Variant == want.Variant && runsOn(p, want) && (needs(p, want) < 2 || !spared(p, have)) {
			at = append(at, i)
		}
	}
	return at
}

// Single returns the position of the one of have that is meant where several fit what
// was declared: of doubles the first, and what needs no feature or version that was not
// declared. ok is false where they differ in what else they are.
func Single(declared ocispec.Platform, have []ocispec.Platform) (at int, ok bool) {
	for i, p := range have {
		switch n := needs(p, declared); {
		case i == 0 || n < needs(have[at], declared):
			at, ok = i, true
		case n == needs(have[at], declared) && Compare(p, have[at]) != 0:
			ok = false
		}
	}
	return at, ok
}

// Plain leaves those of have that are worth an image of their own when no platform is
// named: without those that need a feature, or other than Windows a version, where the
// same platform is there without.
func Plain(have []ocispec.Platform) (list []ocispec.Platform) {
	for _, p := range have {
		bare := p
		bare.OSVersion, bare.OSFeatures = "", nil
		versioned := p.OSVersion != "" && p.OS != "windows" && slices.ContainsFunc(have, func(o ocispec.Platform) bool { return Compare(o, bare) == 0 })
		if !versioned && !spared(p, have) {
			list = append(list, p)
		}
	}
	return list
}

// spared reports whether p needs features and have has the same without.
func spared(p ocispec.Platform, have []ocispec.Platform) bool {
	bare := p
	bare.OSFeatures = nil
	return len(p.OSFeatures) > 0 && slices.ContainsFunc(have, func(o ocispec.Platform) bool { return Compare(o, bare) == 0 })
}

// needs says what something made for have needs that is not wanted: 2 for a feature,
// 1 for a version, 0 for neither.
func needs(have, want ocispec.Platform) int {
	switch {
	case slices.ContainsFunc(have.OSFeatures, func(f string) bool { return !slices.Contains(want.OSFeatures, f) }):
		return 2
	case have.OSVersion != "" && want.OSVersion == "":
		return 1
	}
	return 0
}

// runsOn reports whether something made for have runs where want is wanted.
func runsOn(have, want ocispec.Platform) bool {
	if have.OS == "" || have.OS != want.OS || have.Architecture != want.Architecture {
		return false
	}
	if have.Variant != want.Variant {
		h, w := rank(have), rank(want)
		if h == unordered || w == unordered || h > w {
			return false
		}
	}
	if v := want.OSVersion; v != "" && have.OSVersion != v && !strings.HasPrefix(have.OSVersion, v+".") {
		return false
	}
	for _, feature := range want.OSFeatures {
		if !slices.Contains(have.OSFeatures, feature) {
			return false
		}
	}
	return true
}

// compareVersions orders dotted versions by number, part by part.
func compareVersions(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		nx, errx := strconv.Atoi(x)
		ny, erry := strconv.Atoi(y)
		if errx != nil || erry != nil {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(nx, ny)
	})
}
