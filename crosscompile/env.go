package crosscompile

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A knob is the variable by which the go command takes a platform's variant.
type knob struct {
	name     string   // GOARM64, …
	standard string   // its value for a platform without a variant, and for the other architectures
	arch     []string // the architectures it is for
	values   map[string]string
}

// knobs lists every variable that changes what the compiler emits for an
// architecture. All are always set: one left out, or empty, would let a value
// of the host's `go env -w` in.
var knobs = []knob{
	{"GO386", "sse2", []string{"386"}, same("sse2", "softfloat")},
	{"GOAMD64", "v1", []string{"amd64"}, same("v1", "v2", "v3", "v4")},
	{"GOARM", "7", []string{"arm"}, map[string]string{"v5": "5", "v6": "6", "v7": "7"}},
	{"GOARM64", "v8.0", []string{"arm64"}, arm64()},
	{"GOMIPS", "hardfloat", []string{"mips", "mipsle"}, same("hardfloat", "softfloat")},
	{"GOMIPS64", "hardfloat", []string{"mips64", "mips64le"}, same("hardfloat", "softfloat")},
	{"GOPPC64", "power8", []string{"ppc64", "ppc64le"}, same("power8", "power9", "power10")},
	{"GORISCV64", "rva20u64", []string{"riscv64"}, same("rva20u64", "rva22u64", "rva23u64")},
}

func same(values ...string) map[string]string {
	m := map[string]string{}
	for _, v := range values {
		m[v] = v
	}
	return m
}

// arm64 maps v8 … v8.9 and v9 … v9.5 to the minor versions that GOARM64 wants.
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

// A VariantError names a variant that the compiler has no setting for.
type VariantError struct {
	Platform ocispec.Platform
	Known    []string // the variants of that architecture, none if it has none
}

func (e *VariantError) Error() string {
	return fmt.Sprintf("Go has no variant %q of %s/%s", e.Platform.Variant, e.Platform.OS, e.Platform.Architecture)
}

// Is reports whether target is the kind of the error.
func (*VariantError) Is(target error) bool { return target == hint.Usage }

// Hint lists the variants there are.
func (e *VariantError) Hint() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("write %s/%s", e.Platform.OS, e.Platform.Architecture)
	}
	return "the variants are " + strings.Join(e.Known, ", ")
}

// Env returns the variables that make the go command build for p, every one
// explicit and sorted: GOOS, GOARCH, CGO_ENABLED=0 and all knobs (GOAMD64,
// GOARM, …), of which p's variant sets one. A variant that Go cannot aim at is a
// [*VariantError]; whether Go knows os and architecture is for [Go.Targets].
func Env(p ocispec.Platform) ([]string, error) {
	p = platform.Normalize(p)
	env := []string{"CGO_ENABLED=0", "GOARCH=" + p.Architecture, "GOOS=" + p.OS}
	known := p.Variant == ""
	var choices []string
	for _, k := range knobs {
		value := k.standard
		if slices.Contains(k.arch, p.Architecture) && p.Variant != "" {
			v, ok := k.values[p.Variant]
			if ok {
				value, known = v, true
			}
			choices = sortedKeys(k.values)
		}
		env = append(env, k.name+"="+value)
	}
	if !known {
		return nil, &VariantError{Platform: p, Known: choices}
	}
	slices.Sort(env)
	return env, nil
}

// Knobs returns what of [Env] tells p from other platforms: GOOS, GOARCH and,
// where the architecture has one, the variable of its variants.
func Knobs(p ocispec.Platform) ([]string, error) {
	env, err := Env(p)
	if err != nil {
		return nil, err
	}
	p = platform.Normalize(p)
	list := []string{"GOOS=" + p.OS, "GOARCH=" + p.Architecture}
	for _, k := range knobs {
		if slices.Contains(k.arch, p.Architecture) {
			list = append(list, slices.DeleteFunc(env, func(kv string) bool { return !strings.HasPrefix(kv, k.name+"=") })...)
		}
	}
	return list, nil
}

// Owned reports whether a variable is this package's to set: what it aims at, and
// where the go command finds and leaves things.
func Owned(name string) bool {
	return slices.ContainsFunc(knobs, func(k knob) bool { return k.name == name }) || slices.Contains([]string{
		"CGO_ENABLED", "GO111MODULE", "GOARCH", "GOCACHE", "GOENV", "GOFLAGS", "GOMODCACHE", "GOOS", "GOPATH",
		"GOROOT", "GOTMPDIR", "GOTOOLCHAIN", "GOWORK",
	}, name)
}

// Variants returns the variants that Go can aim at on an architecture, in the
// spelling of platforms; none for an architecture without variants.
func Variants(architecture string) []string {
	for _, k := range knobs {
		if slices.Contains(k.arch, architecture) {
			return sortedKeys(k.values)
		}
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
