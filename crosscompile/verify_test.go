package crosscompile

import (
	"os"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// verify compares the header of a program with the platform.
func TestVerify(t *testing.T) {
	self, err := os.Executable() // the program of this test
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(self, ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}); err != nil {
		t.Error(err)
	}
	for _, p := range []ocispec.Platform{
		{OS: "linux", Architecture: "ppc64le"},
		{OS: "linux", Architecture: "mips"},
		{OS: "windows", Architecture: "arm64"},
		{OS: "darwin", Architecture: "arm64"},
		{OS: "wasip1", Architecture: "wasm"},
	} {
		if err := verify(self, p); err == nil || !strings.HasPrefix(err.Error(), "not an executable of the platform: ") {
			t.Errorf("%s/%s: %v", p.OS, p.Architecture, err)
		}
	}
}
