package platform_test

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Declared leaves a missing variant empty.
func TestDeclared(t *testing.T) {
	for text, want := range map[string]string{
		"linux/arm": "", "linux/arm/v7": "v7", "linux/armhf": "v7", "linux/arm64": "", "linux/arm64/v8": "v8", "linux/amd64/v1": "v1",
		"linux/amd64/v3": "v3", "windows/amd64:10.0.1": "", "LINUX/ARM": "",
	} {
		p, err := platform.Declared(text)
		if err != nil || p.Variant != want {
			t.Errorf("%s: variant %q, %v; want %q", text, p.Variant, err, want)
		}
		parsed, err := platform.Parse(text)
		if err != nil || platform.Key(p) != platform.Key(parsed) {
			t.Errorf("%s is %s when parsed and %s when declared (%v)", text, platform.Key(parsed), platform.Key(p), err)
		}
	}
	if _, err := platform.Declared("arm64"); err == nil {
		t.Error("Declared accepts an architecture without os")
	}
}

// OS, ARCH, VARIANT and ARCHVARIANT in a template are replaced as the user wrote them.
func TestFill(t *testing.T) {
	for _, c := range []struct{ template, typed, want string }{
		{"app-ARCH:v1", "linux/arm64", "app-arm64:v1"},
		{"app-ARCHVARIANT:v1", "linux/arm64/v8", "app-arm64v8:v1"},
		{"app-ARCHVARIANT:v1", "linux/arm/v7", "app-armv7:v1"},
		{"OS/app-ARCH-OS:VARIANT", "linux/arm/v6", "linux/app-arm-linux:v6"},
		{"app-OS-ARCH", "windows/amd64:10.0.17763.1", "app-windows-amd64"},
		{"app-OS-ARCH", "windows(10.0.17763)/amd64", "app-windows-amd64"},
		{"app:v1", "linux/amd64", "app:v1"},
	} {
		if got := platform.Fill(c.template, c.typed); got != c.want {
			t.Errorf("Fill(%q, %q) = %q, want %q", c.template, c.typed, got, c.want)
		}
	}
}

// Reconcile merges the declared platform and the config's, and reports whether they agree.
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
		got, agree := platform.Reconcile(c.declared, c.config)
		if platform.Key(got) != c.want || got.Variant != c.variant || agree != c.agree {
			t.Errorf("%s: %s, variant %q, %v; want %s, %q, %v", c.name, platform.Key(got), got.Variant, agree, c.want, c.variant, c.agree)
		}
	}
}
