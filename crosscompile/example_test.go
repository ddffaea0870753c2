package crosscompile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// Compiles a package for a platform and prints for which variant it was built.
func ExampleGo_Compile() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var g crosscompile.Go
	bin, err := g.Compile(context.Background(), crosscompile.Request{
		Dir: "../examples/hello", Package: ".", Out: filepath.Join(dir, "hello"),
		Platform: ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"},
		Flags:    []string{"-ldflags=-s -w"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bin.Info.Path)
	for _, s := range bin.Info.Settings {
		if s.Key == "GOARM" {
			fmt.Println(s.Key, s.Value)
		}
	}
	// Output:
	// github.com/mabuild/mabuild/examples/hello
	// GOARM 6
}

// Env sets every Go variable that changes a build, so that no setting of the host applies.
func ExampleEnv() {
	env, err := crosscompile.Env(ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"})
	if err != nil {
		log.Fatal(err)
	}
	for _, kv := range env {
		fmt.Println(kv)
	}
	// Output:
	// CGO_ENABLED=0
	// GO386=sse2
	// GOAMD64=v3
	// GOARCH=amd64
	// GOARM64=v8.0
	// GOARM=7
	// GOMIPS64=hardfloat
	// GOMIPS=hardfloat
	// GOOS=linux
	// GOPPC64=power8
	// GORISCV64=rva20u64
}

// Check finds platforms that this version of Go does not support before anything is
// compiled.
func ExampleGo_Check() {
	var g crosscompile.Go
	err := g.Check(context.Background(), ".", []ocispec.Platform{
		{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64", Variant: "v9"},
	}, nil)
	var target *crosscompile.TargetError
	if errors.As(err, &target) {
		fmt.Println(target.Platform.Architecture, target.Known)
	}
	// Output: amd64 [v1 v2 v3 v4]
}
