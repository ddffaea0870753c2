package build

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// staticFlags adds the linker's flags for a static program only where cgo is used.
func TestStaticFlags(t *testing.T) {
	c := Compile{Cgo: true, C: crosscompile.Cgo{Static: true}, Ldflags: []string{"-X main.a=b"}, Tags: []string{"mine"}}
	if got, want := strings.Join(c.Flags(), "|"), "-ldflags=-linkmode=external -extldflags=-static -s -w -X main.a=b|-tags=mine,netgo,osusergo"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	c.Cgo = false
	if got, want := strings.Join(c.Flags(), "|"), "-ldflags=-s -w -X main.a=b|-tags=mine"; got != want {
		t.Errorf("without cgo: %s\nwant %s", got, want)
	}
}

// A resolved Spec is plain data: Specs of two Builders, that ask for the same in two
// spellings, are equal and print the same text.
func TestSpecIsPlainData(t *testing.T) {
	dir := program(t, "package main\n\nfunc main() {}\n")
	resolve := func(p Program) Spec {
		b := &Builder{Work: t.TempDir(), Cache: t.TempDir()}
		s, err := b.Resolve(t.Context(), Spec{Program: p, Dir: dir, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := resolve(nil)
	for _, p := range []Program{GoPackage{}, &GoPackage{}, (*GoPackage)(nil)} {
		if got := resolve(p); !reflect.DeepEqual(got, want) || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%#v gives %+v, want %+v", p, got, want)
		}
	}
}
