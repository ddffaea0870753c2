package build

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// staticFlags adds the linker's flags for a static program only where cgo is used.
func TestStaticFlags(t *testing.T) {
	c := Compile{Cgo: true, C: crosscompile.Cgo{Static: true}, Ldflags: []string{"-X main.a=b"}, Tags: []string{"mine"}}
	if got, want := strings.Join(c.flags(), "|"), "-ldflags=-linkmode=external -extldflags=-static -s -w -X main.a=b|-tags=mine,netgo,osusergo"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	c.Cgo = false
	if got, want := strings.Join(c.flags(), "|"), "-ldflags=-s -w -X main.a=b|-tags=mine"; got != want {
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

// The format and the level of a compression are checked, and have defaults.
func TestCompressionValidates(t *testing.T) {
	for text, c := range map[string]Compression{
		`compression: unknown format "lz4"`:            {Format: "lz4"},
		"compression: gzip has levels 1 to 9, not 10":  {Format: Gzip, Level: 10},
		"compression: gzip has levels 1 to 9, not -1":  {Level: -1},
		"compression: zstd has levels 1 to 22, not 23": {Format: Zstd, Level: 23},
	} {
		if err := c.full().validate(); err == nil || err.Error() != text {
			t.Errorf("%v: %v, want %s", c, err, text)
		}
	}
	for c, want := range map[Compression]string{{}: "{gzip 1}", {Format: Zstd}: "{zstd 3}", {Format: Gzip, Level: 6}: "{gzip 6}"} {
		if full := c.full(); fmt.Sprint(full) != want || full.validate() != nil {
			t.Errorf("%v is %v: %v", c, full, full.validate())
		}
	}
}

// Only the files of the Go kind, go*.go, know how a Go package is found and compiled.
// Another kind of program needs no change elsewhere but in plainProgram.
func TestOnlyTheGoKindKnowsGo(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	own := []string{"goPackage", "settings", "withMain", "goMaker", "Compile", "GoPackage"}
	found := map[string]int{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == "plainProgram" {
				continue
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && slices.Contains(own, id.Name) {
					if found[id.Name]++; !strings.HasPrefix(file, "go") {
						t.Errorf("%s uses %s", file, id.Name)
					}
				}
				return true
			})
		}
	}
	if len(found) != len(own) {
		t.Errorf("only %v were found", found)
	}
}
