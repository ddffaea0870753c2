package platform

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unordered is the rank of a variant whose order among the others is not known.
const unordered = -1

// ladders lists the variants of each architecture from the lowest to the highest. A CPU
// of one variant runs programs of all variants before it: GOAMD64, GOARM, GOARM64,
// GOPPC64 and GORISCV64 have the same order.
var ladders = map[string][]string{
	"amd64":   {"v1", "v2", "v3", "v4"},
	"arm":     {"v5", "v6", "v7", "v8"},
	"arm64":   {"v8", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9", "v9", "v9.1", "v9.2", "v9.3", "v9.4", "v9.5"},
	"ppc64":   {"power8", "power9", "power10"},
	"ppc64le": {"power8", "power9", "power10"},
	"riscv64": {"rva20u64", "rva22u64", "rva23u64"},
}

// rank returns the position of the variant on its architecture's ladder. No variant
// counts as the lowest. p must be in normal form.
func rank(p ocispec.Platform) int {
	if p.Variant == "" {
		return 0
	}
	return slices.Index(ladders[p.Architecture], p.Variant)
}

// Choose returns the position in have of the platform to run want on: the same os and
// architecture, and the highest variant that is not above the wanted one. No variant
// counts as the lowest, except that arm without a variant is v7. A variant that is on no
// known ladder matches only itself.
//
// A wanted os.version selects that version and all that begin with it and a dot;
// 10.0.17763 selects 10.0.17763.1. Without one the highest version wins. All wanted
// os.features must be there. A platform that needs a feature or a version which is not
// wanted never wins over one that needs neither. Of several equals the first wins. ok is
// false if nothing fits.
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

// All returns the positions in have of all platforms that want names: the same os,
// architecture and variant, with version and features as for [Choose]. There is more than
// one if have has several versions, or the same platform twice. A platform that needs a
// feature which is not wanted is among them only if have does not have the same platform
// without features.
//
// All answers which images a selection keeps, Choose which one image runs.
func All(want ocispec.Platform, have []ocispec.Platform) (at []int) {
	want = Normalize(want)
	for i, p := range have {
		if p = Normalize(p); p.Variant == want.Variant && runsOn(p, want) && (needs(p, want) < 2 || !spared(p, have)) {
			at = append(at, i)
		}
	}
	return at
}

// Single returns the position of the one of have that is meant if several fit a declared
// platform. It prefers what needs no feature and no version that was not declared; of
// several equal platforms it returns the first. ok is false if have is empty or the best
// of them are different platforms, so that the choice would be a guess.
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

// Plain returns those of have that get an image if a user names no platform. It leaves
// out a platform that needs features, or, except on Windows, a version, if have has the
// same platform without. Versions of Windows stay, because a Windows container runs only
// on a matching host version.
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

// spared reports whether p needs features and have has the same platform without them.
func spared(p ocispec.Platform, have []ocispec.Platform) bool {
	bare := p
	bare.OSFeatures = nil
	return len(p.OSFeatures) > 0 && slices.ContainsFunc(have, func(o ocispec.Platform) bool { return Compare(o, bare) == 0 })
}

// needs returns what a program for have needs that want does not name: 2 for a feature, 1
// for a version, 0 for neither.
func needs(have, want ocispec.Platform) int {
	switch {
	case slices.ContainsFunc(have.OSFeatures, func(f string) bool { return !slices.Contains(want.OSFeatures, f) }):
		return 2
	case have.OSVersion != "" && want.OSVersion == "":
		return 1
	}
	return 0
}

// runsOn reports whether a program for have runs on want. Both are in normal form. A
// variant may be lower than the wanted one, a version must begin with the wanted one, and
// features may be more than the wanted ones.
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

// compareVersions orders dotted versions by number, part by part; a part that is not a
// number is compared as text.
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
