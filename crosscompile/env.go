package crosscompile

import (
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// knobs has every variable that changes the code for an architecture: the go command
// expects the variant of a platform in it. All of them are always set: for a variable that
// is missing or empty, the go command would use the value that `go env -w` has stored on
// the host.
var knobs = []struct {
	name     string            // for example GOARM64
	standard string            // the value without a variant, and for other architectures
	arch     []string          // the architectures that it applies to
	values   map[string]string // by variant
}{
	{"GO386", "sse2", []string{"386"}, same("sse2", "softfloat")},
	{"GOAMD64", "v1", []string{"amd64"}, same("v1", "v2", "v3", "v4")},
	{"GOARM", "7", []string{"arm"}, map[string]string{"v5": "5", "v6": "6", "v7": "7"}},
	{"GOARM64", "v8.0", []string{"arm64"}, arm64()},
	{"GOMIPS", "hardfloat", []string{"mips", "mipsle"}, same("hardfloat", "softfloat")},
	{"GOMIPS64", "hardfloat", []string{"mips64", "mips64le"}, same("hardfloat", "softfloat")},
	{"GOPPC64", "power8", []string{"ppc64", "ppc64le"}, same("power8", "power9", "power10")},
	{"GORISCV64", "rva20u64", []string{"riscv64"}, same("rva20u64", "rva22u64", "rva23u64")},
}

// same maps each value to itself.
func same(values ...string) map[string]string {
	m := map[string]string{}
	for _, v := range values {
		m[v] = v
	}
	return m
}

// arm64 maps the variants v8 to v8.9 and v9 to v9.5 to the values of GOARM64, which
// always have a minor version.
func arm64() map[string]string {
	m := map[string]string{"v8": "v8.0", "v9": "v9.0"}
	for major, minors := range map[string]int{"v8": 9, "v9": 5} {
		for minor := 1; minor <= minors; minor++ {
			v := fmt.Sprintf("%s.%d", major, minor)
			m[v] = v
		}
	}
	return m
}

// Env returns the variables that make the go command build for p, sorted: GOOS, GOARCH,
// CGO_ENABLED=0 and all variables of variants (GOAMD64, GOARM, …), of which the variant
// of p sets one. A variant that Go does not support is a [*TargetError]. Env does not
// check os and architecture; [Go.Check] does.
func Env(p ocispec.Platform) ([]string, error) {
	p = platform.Normalize(p)
	env := []string{"CGO_ENABLED=0", "GOARCH=" + p.Architecture, "GOOS=" + p.OS}
	// A variant is known if the variable of the architecture has a value for it. Without
	// a variant every architecture is accepted here.
	known := p.Variant == ""
	var choices []string
	for _, k := range knobs {
		value := k.standard
		if slices.Contains(k.arch, p.Architecture) && p.Variant != "" {
			v, ok := k.values[p.Variant]
			if ok {
				value, known = v, true
			}
			choices = slices.Sorted(maps.Keys(k.values))
		}
		env = append(env, k.name+"="+value)
	}
	if !known {
		return nil, &TargetError{Platform: p, Variant: true, Known: choices}
	}
	slices.Sort(env)
	return env, nil
}

// Owned reports whether only this package may set a variable: those for the platform, and
// those that say where the go command finds and stores files.
func Owned(name string) bool {
	for _, k := range knobs {
		if k.name == name {
			return true
		}
	}
	return slices.Contains([]string{
		"CGO_ENABLED", "GO111MODULE", "GOARCH", "GOCACHE", "GOENV", "GOFLAGS", "GOMODCACHE", "GOOS", "GOPATH",
		"GOROOT", "GOTMPDIR", "GOTOOLCHAIN", "GOWORK",
	}, name)
}

// Variants returns the variants of an architecture that Go supports, as a platform spells
// them, sorted, and the variable of [Env] that has their value, such as GOARM64. Both are
// empty for an architecture without variants.
func Variants(architecture string) (variable string, variants []string) {
	for _, k := range knobs {
		if slices.Contains(k.arch, architecture) {
			return k.name, slices.Sorted(maps.Keys(k.values))
		}
	}
	return "", nil
}
