package crosscompile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest/platform"
)

func parse(t *testing.T, text string) ocispec.Platform {
	t.Helper()
	p, err := platform.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A variant sets the Go variable of its architecture, such as GOARM.
func TestEnvMapsVariantsToKnobs(t *testing.T) {
	for text, want := range map[string]string{
		"linux/arm/v5":           "GOARM=5",
		"linux/arm/v6":           "GOARM=6",
		"linux/arm":              "GOARM=7",
		"linux/amd64":            "GOAMD64=v1",
		"linux/amd64/v3":         "GOAMD64=v3",
		"linux/arm64":            "GOARM64=v8.0",
		"linux/arm64/v8.2":       "GOARM64=v8.2",
		"linux/arm64/v9":         "GOARM64=v9.0",
		"linux/arm64/v9.5":       "GOARM64=v9.5",
		"linux/riscv64/rva22u64": "GORISCV64=rva22u64",
		"linux/ppc64le/power10":  "GOPPC64=power10",
		"linux/mips/softfloat":   "GOMIPS=softfloat",
		"linux/mips64le":         "GOMIPS64=hardfloat",
		"linux/386/softfloat":    "GO386=softfloat",
	} {
		env, err := crosscompile.Env(parse(t, text))
		if err != nil || !slices.Contains(env, want) {
			t.Errorf("%s: %v, %v; want %s", text, env, err, want)
		}
	}
}

// Every variable that changes a build has a value for every platform. With an empty one, go
// env -w of the host would apply.
func TestEnvSetsEveryKnob(t *testing.T) {
	for _, text := range []string{"linux/amd64", "linux/arm/v6", "windows/arm64", "wasip1/wasm"} {
		env, err := crosscompile.Env(parse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		for _, knob := range []string{"GOOS", "GOARCH", "GOARM", "GOARM64", "GOAMD64", "GO386", "GOMIPS", "GOMIPS64", "GOPPC64", "GORISCV64", "CGO_ENABLED"} {
			if n := len(slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
				k, v, _ := strings.Cut(kv, "=")
				return k != knob || v == ""
			})); n != 1 {
				t.Errorf("%s: %s has %d values in %v", text, knob, n, env)
			}
		}
	}
}

// A variant that Go does not support is an error with a hint.
func TestEnvRefusesVariantsThatGoHasNot(t *testing.T) {
	for text, way := range map[string]string{
		"linux/amd64/v5": "v1, v2, v3, v4", "linux/arm/v8": "v5, v6, v7", "linux/arm64/v10": "v8", "linux/s390x/z13": "write linux/s390x",
	} {
		_, err := crosscompile.Env(parse(t, text))
		var ve *crosscompile.TargetError
		if !errors.As(err, &ve) || !ve.Variant || !strings.Contains(ve.Hint(), way) {
			t.Errorf("%s: %v, hint %q", text, err, ve.Hint())
		}
	}
}
