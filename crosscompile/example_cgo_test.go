package crosscompile_test

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// Says which C compilers cgo uses, and learns before a build whether they are there.
func ExampleCgo() {
	var g crosscompile.Go
	cgo := crosscompile.Cgo{
		Toolchain: crosscompile.Custom,
		Static:    true,
		CC:        map[string]string{"linux/arm64": "no-such-compiler --sysroot=/opt/arm64"},
		Env:       map[string][]string{"linux/arm64": {"CGO_CFLAGS=-O2"}},
	}
	err := g.Check(context.Background(), ".", []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}, &cgo)
	fmt.Println(err != nil)
	// Output: true
}
