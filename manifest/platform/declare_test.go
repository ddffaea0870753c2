package platform_test

import (
	"testing"

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
