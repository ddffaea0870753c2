package crosscompile

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Verify compares the header of a program with the platform, and returns its build
// information.
func TestVerify(t *testing.T) {
	name, err := os.Executable() // the program of this test
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if info, err := Verify(self, ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}); err != nil || info.GoVersion != runtime.Version() {
		t.Error(err)
	}
	for _, p := range []ocispec.Platform{
		{OS: "linux", Architecture: "ppc64le"},
		{OS: "linux", Architecture: "mips"},
		{OS: "windows", Architecture: "arm64"},
		{OS: "darwin", Architecture: "arm64"},
		{OS: "wasip1", Architecture: "wasm"},
	} {
		if _, err := Verify(self, p); err == nil || !strings.HasPrefix(err.Error(), "not an executable of the platform: ") {
			t.Errorf("%s/%s: %v", p.OS, p.Architecture, err)
		}
	}
}

// Verify reads the version of the processor that a program requires: from Go's settings, or
// from the build attributes of ARM, which the C compiler of Debian's armhf writes.
func TestVerifyVariant(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	for name, text := range map[string]string{"main.go": "package main\n\nfunc main() {}\n", "main.c": "int main(void) { return 0; }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, command := range map[string][]string{
		"go-v6":    {"env", "GOOS=linux", "GOARCH=arm", "GOARM=6", "CGO_ENABLED=0", "go", "build", "-o"},
		"go-v7":    {"env", "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0", "go", "build", "-o"},
		"go-amd64": {"env", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v3", "CGO_ENABLED=0", "go", "build", "-o"},
		"c-v7":     {"arm-linux-gnueabihf-gcc", "-o"},
		"c-v5":     {"arm-linux-gnueabi-gcc", "-o"},
	} {
		from := source
		if strings.HasPrefix(name, "c-") {
			from = filepath.Join(dir, "main.c")
		}
		command = append(command, filepath.Join(dir, name), from)
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	for _, c := range []struct{ file, platform, want string }{
		{"go-v6", "linux/arm/v6", ""},
		{"go-v6", "linux/arm/v7", ""},
		{"go-v6", "linux/arm/v5", "it requires version 6 of arm, and the platform has version 5"},
		{"go-v7", "linux/arm", ""},
		{"go-v7", "linux/arm/v6", "it requires version 7 of arm, and the platform has version 6"},
		{"go-amd64", "linux/amd64/v4", ""},
		{"go-amd64", "linux/amd64", "it requires version 3 of amd64, and the platform has version 1"},
		{"c-v7", "linux/arm/v7", ""},
		{"c-v7", "linux/arm/v6", "it requires version 7 of arm, and the platform has version 6"},
		{"c-v5", "linux/arm/v5", ""},
	} {
		p, err := platform.Parse(c.platform)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if _, err := Verify(f, p); err != nil {
			got = strings.TrimPrefix(err.Error(), "not an executable of the platform: ")
		}
		if got != c.want {
			t.Errorf("%s for %s: %q, want %q", c.file, c.platform, got, c.want)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
