package crosscompile_test

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// constrained has programs of which constraints leave some out.
func constrained(t *testing.T) string {
	return write(t, map[string]string{
		"go.mod":              "module example.com/app\n\ngo 1.26\n",
		"cmd/any/main.go":     mainGo,
		"cmd/win/main.go":     "//go:build windows\n\n" + mainGo,
		"cmd/tag/main.go":     "//go:build special\n\n" + mainGo,
		"cmd/cgo/main.go":     "package main\n\nimport \"C\"\n\nfunc main() {}\n",
		"cmd/lib/lib.go":      "package lib\n",
		"cmd/testdata/m/m.go": mainGo,
	})
}

func TestMains(t *testing.T) {
	dir := constrained(t)
	linux, windows := ocispec.Platform{OS: "linux", Architecture: "arm64"}, ocispec.Platform{OS: "windows", Architecture: "amd64"}
	for _, c := range []struct {
		pattern string
		aims    []crosscompile.Aim
		want    []string
	}{
		{"./...", []crosscompile.Aim{{Platform: linux}}, []string{"./cmd/any"}},
		{"./cmd/...", []crosscompile.Aim{{Platform: linux}, {Platform: windows}}, []string{"./cmd/any", "./cmd/win"}},
		{"./cmd/...", []crosscompile.Aim{{Platform: linux, Tags: []string{"special"}}}, []string{"./cmd/any", "./cmd/tag"}},
		{"./cmd/...", []crosscompile.Aim{{Platform: linux, Cgo: true}}, []string{"./cmd/any", "./cmd/cgo"}},
		{"example.com/app/cmd/...", []crosscompile.Aim{{Platform: windows}}, []string{"example.com/app/cmd/any", "example.com/app/cmd/win"}},
		{"./cmd/a...", nil, []string{"./cmd/any"}},
	} {
		got, err := new(crosscompile.Go).Mains(t.Context(), crosscompile.Query{Pattern: c.pattern, Dir: dir, Aims: c.aims})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Mains(%s for %v) = %v, %v; want %v", c.pattern, c.aims, got, err, c.want)
		}
	}
	if got, err := new(crosscompile.Go).Mains(t.Context(), crosscompile.Query{Pattern: "../...", Dir: filepath.Join(dir, "cmd"), Aims: []crosscompile.Aim{{Platform: linux}}}); err != nil || !slices.Equal(got, []string{"./any"}) {
		t.Errorf("from a subdirectory: %v, %v", got, err)
	}
}

// TestFindAims finds programs that constraints leave out on the host.
func TestFindAims(t *testing.T) {
	dir := constrained(t)
	linux, windows := ocispec.Platform{OS: "linux", Architecture: "arm64"}, ocispec.Platform{OS: "windows", Architecture: "amd64"}
	for _, c := range []struct {
		pattern string
		aims    []crosscompile.Aim
		finds   bool
	}{
		{"./cmd/win", []crosscompile.Aim{{Platform: linux}, {Platform: windows}}, true},
		{"./cmd/win", []crosscompile.Aim{{Platform: linux}}, false},
		{"example.com/app/cmd/tag", []crosscompile.Aim{{Platform: linux, Tags: []string{"special"}}}, true},
		{"./cmd/cgo", []crosscompile.Aim{{Platform: linux, Cgo: true}}, true},
	} {
		p, err := new(crosscompile.Go).Find(t.Context(), crosscompile.Query{Pattern: c.pattern, Dir: dir, Aims: c.aims})
		if (err == nil) != c.finds || c.finds && p.PkgPath != "example.com/app/"+c.pattern[len(c.pattern)-len("cmd/win"):] {
			t.Errorf("Find(%s for %v) = %+v, %v", c.pattern, c.aims, p, err)
		}
	}
}

// A program that a pattern leaves out because cgo is off is named: the go command matches it
// no longer, without a word.
func TestMainsWithoutCgo(t *testing.T) {
	var said strings.Builder
	g := &crosscompile.Go{Log: slog.New(slog.NewTextHandler(&said, nil))}
	aims := []crosscompile.Aim{{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}}}
	dir := constrained(t)
	if _, err := g.Mains(t.Context(), crosscompile.Query{Pattern: "./cmd/...", Dir: dir, Aims: aims}); err != nil || !strings.Contains(said.String(), "left out example.com/app/cmd/cgo, which imports") {
		t.Errorf("%v, log %s", err, said.String())
	}
	_, err := g.Mains(t.Context(), crosscompile.Query{Pattern: "./cmd/cg...", Dir: dir, Aims: aims})
	if err == nil || !strings.Contains(err.Error(), "no main package without cgo, only example.com/app/cmd/cgo") {
		t.Error(err)
	}
	said.Reset()
	aims[0].Cgo = true
	if _, err := g.Mains(t.Context(), crosscompile.Query{Pattern: "./cmd/...", Dir: dir, Aims: aims}); err != nil || said.Len() > 0 {
		t.Errorf("%v, log %s", err, said.String())
	}
}
