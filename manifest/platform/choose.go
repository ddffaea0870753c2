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
// equals. Wanted os.features must all be there. ok is false when nothing fits.
func Choose(want ocispec.Platform, have []ocispec.Platform) (at int, ok bool) {
	want = Normalize(want)
	best := ocispec.Platform{}
	for i, candidate := range have {
		candidate = Normalize(candidate)
		if !runsOn(candidate, want) {
			continue
		}
		better := cmp.Or(cmp.Compare(rank(candidate), rank(best)), compareVersions(candidate.OSVersion, best.OSVersion)) > 0
		if !ok || better {
			at, ok, best = i, true, candidate
		}
	}
	return at, ok
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
