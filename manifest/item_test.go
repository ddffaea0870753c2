package manifest

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// reconcile merges the declared platform and the config's, and reports whether they agree.
func TestReconcile(t *testing.T) {
	type p = ocispec.Platform
	for _, c := range []struct {
		name             string
		declared, config p
		want             string // the key of the result
		variant          string // as written in the index
		agree            bool
	}{
		{"nothing declared", p{}, p{OS: "linux", Architecture: "arm"}, "linux/arm/v7", "", true},
		{"variant of the config", p{OS: "linux", Architecture: "arm"}, p{OS: "linux", Architecture: "arm", Variant: "v6"}, "linux/arm/v6", "v6", true},
		{"variant of the declaration", p{OS: "linux", Architecture: "arm", Variant: "v5"}, p{OS: "linux", Architecture: "arm"}, "linux/arm/v5", "v5", true},
		{"the config's spelling", p{OS: "linux", Architecture: "arm64"}, p{OS: "linux", Architecture: "arm64", Variant: "v8"}, "linux/arm64", "v8", true},
		{"the lowest variant is left out", p{OS: "linux", Architecture: "arm64", Variant: "v8"}, p{OS: "linux", Architecture: "arm64"}, "linux/arm64", "", true},
		{"a version in only one of them", p{OS: "windows", Architecture: "amd64", OSVersion: "10"}, p{OS: "windows", Architecture: "amd64"}, "windows/amd64:10", "", true},
		{"features in only one of them", p{OS: "windows", Architecture: "amd64"}, p{OS: "windows", Architecture: "amd64", OSFeatures: []string{"b", "a"}}, "windows/amd64:+a+b", "", true},
		{"no OS in the config", p{OS: "linux", Architecture: "amd64"}, p{}, "linux/amd64", "", true},
		{"aliases", p{OS: "linux", Architecture: "amd64"}, p{OS: "Linux", Architecture: "x86_64"}, "linux/amd64", "", true},
		{"another variant", p{OS: "linux", Architecture: "arm", Variant: "v7"}, p{OS: "linux", Architecture: "arm", Variant: "v6"}, "linux/arm/v7", "v7", false},
		{"another architecture", p{OS: "linux", Architecture: "arm64"}, p{OS: "linux", Architecture: "amd64"}, "linux/arm64", "", false},
		{"another version", p{OS: "windows", Architecture: "amd64", OSVersion: "10"}, p{OS: "windows", Architecture: "amd64", OSVersion: "11"}, "windows/amd64:10", "", false},
	} {
		got, agree := reconcile(c.declared, c.config)
		if platform.Key(got) != c.want || got.Variant != c.variant || agree != c.agree {
			t.Errorf("%s: %s, variant %q, %v; want %s, %q, %v", c.name, platform.Key(got), got.Variant, agree, c.want, c.variant, c.agree)
		}
	}
}
