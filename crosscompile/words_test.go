package crosscompile_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
)

// The errors of the go command become one sentence and a hint.
func TestErrorsOfTheGoCommand(t *testing.T) {
	const goMod = "module example.com/app\n\ngo 1.26\n"
	linux := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for name, test := range map[string]struct {
		files       map[string]string
		environ     []string
		pattern     string
		compile     []string // flags of the compiler; nil: the package is only found, not compiled
		says, hints string
		most        int // the most lines that the error may have
	}{
		"conflict marks": {
			map[string]string{"cmd/a/main.go": mainGo, "cmd/b/main.go": "<<<<<<< HEAD\npackage main\n"},
			nil, "./cmd/...", nil,
			"package example.com/app/cmd/b: cmd/b/main.go:1:1: expected 'package', found '<<'", "fix it", 1,
		},
		"an empty file": {map[string]string{"cmd/a/main.go": mainGo, "cmd/b/main.go": ""}, nil, "./cmd/...", nil, "cmd/b/main.go:1:1: expected 'package', found 'EOF'", "fix it", 1},
		"two packages": {
			map[string]string{"cmd/a/main.go": mainGo, "cmd/b/a.go": "package a\n", "cmd/b/main.go": mainGo},
			nil, "./cmd/...", nil,
			"found packages a (a.go) and main (main.go)", "fix it", 1,
		},
		"a newer Go": {map[string]string{"go.mod": "module example.com/app\n\ngo 1.99\n", "main.go": mainGo}, []string{"GOTOOLCHAIN=local"}, ".", nil, "go.mod requires go >= 1.99", "GOTOOLCHAIN=auto", 1},
		"stale vendoring": {
			map[string]string{"go.mod": goMod + "\nrequire golang.org/x/mod v0.20.0\n", "main.go": mainGo, "vendor/modules.txt": "# example.com/x v1.0.0\n"},
			nil, ".",
			[]string{},
			"inconsistent vendoring", "go mod vendor", 9,
		},
		"no workspace":    {map[string]string{"main.go": mainGo}, []string{"GOWORK=/nowhere/go.work"}, ".", nil, "/nowhere/go.work", "unset it", 1},
		"no go.sum":       {map[string]string{"go.mod": goMod + "\nrequire golang.org/x/mod v0.20.0\n", "main.go": "package main\n\nimport _ \"golang.org/x/mod/semver\"\n\nfunc main() {}\n"}, nil, ".", []string{}, "missing go.sum entry", "run go mod tidy", 9},
		"a broken go.mod": {map[string]string{"go.mod": "module example.com/app\n\nnonsense here\n", "main.go": mainGo}, nil, ".", nil, "unknown directive: nonsense", "fix this file", 9},
		"no such package": {map[string]string{"main.go": mainGo}, nil, "nothing/here", nil, "package nothing/here is not in std", "use a directory", 1},
		"cgo":             {map[string]string{"main.go": "package main\n\nimport \"C\"\n\nfunc main() {}\n"}, nil, ".", []string{}, "build constraints exclude all Go files", "Cgo", 9},
		"cgo in part": {
			map[string]string{"main.go": "package main\n\nfunc main() { g() }\n", "c.go": "package main\n\n// int x;\nimport \"C\"\n\nfunc g() {}\n"},
			nil, ".",
			[]string{},
			"undefined: g", "Cgo", 9,
		},
		"cgo elsewhere": {
			map[string]string{"main.go": "package main\n\nimport _ \"example.com/app/d\"\n\nfunc main() {}\n", "d/d.go": "package d\n\nimport (\n\t\"C\"\n)\n"},
			nil, ".",
			[]string{},
			"build constraints exclude all Go files", "Cgo", 9,
		},
		"undefined without cgo": {map[string]string{"main.go": "package main\n\nfunc main() { g() }\n"}, nil, ".", []string{}, "undefined: g", "", 9},
		"flags of two words":    {map[string]string{"main.go": mainGo}, nil, ".", []string{"-ldflags=-X main.version=f1 f2"}, "link: its flags have one argument too many", "Flags", 3},
		"a flag without value":  {map[string]string{"main.go": mainGo}, nil, ".", []string{"-ldflags=-X"}, "-X flag requires argument", "Flags", 3},
		"an unknown flag":       {map[string]string{"main.go": mainGo}, nil, ".", []string{"-gcflags=-nope"}, "flag provided but not defined: -nope", "go tool compile -help", 3},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			if test.files["go.mod"] == "" {
				test.files["go.mod"] = goMod
			}
			dir := write(t, test.files)
			g := &crosscompile.Go{Environ: append(os.Environ(), append([]string{"GOFLAGS=", "GOWORK=off"}, test.environ...)...)}
			q := crosscompile.Query{Pattern: test.pattern, Dir: dir, Aims: []crosscompile.Aim{{Platform: linux}}}
			var err error
			switch {
			case test.compile != nil:
				_, err = g.Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: filepath.Join(t.TempDir(), "app"), Platform: linux, Flags: test.compile})
			case strings.Contains(test.pattern, "..."):
				_, err = g.Mains(t.Context(), q)
			default:
				_, err = g.Find(t.Context(), q)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Count(err.Error(), "\n")+1 > test.most {
				t.Fatalf("error %v, want %s in %d lines", err, test.says, test.most)
			}
			way := hint.Of(err, func(err error) string {
				if e, ok := err.(*crosscompile.CommandError); ok { //nolint:errorlint // this layer
					return e.Field
				}
				return ""
			})
			if (way == "") != (test.hints == "") || !strings.Contains(way, test.hints) {
				t.Errorf("hint %q, want %q", way, test.hints)
			}
		})
	}
}

// In a workspace directory without go.mod, a pattern matches the packages of all its
// modules, and the error for a missing package lists the main packages of all.
func TestWorkspaceWithoutModule(t *testing.T) {
	files := map[string]string{"go.work": "go 1.26\n\nuse ./a\n\nuse ./b\n", "c/go.mod": "module example.com/c\n", "c/cmd/z/main.go": mainGo}
	for _, m := range []string{"a", "b"} {
		files[m+"/go.mod"], files[m+"/cmd/"+m+"/main.go"] = "module example.com/"+m+"\n\ngo 1.26\n", mainGo
	}
	dir := write(t, files)
	var told bytes.Buffer
	g := &crosscompile.Go{Environ: append(os.Environ(), "GOFLAGS=", "GOWORK="), Log: slog.New(slog.NewTextHandler(&told, nil))}
	got, err := g.Mains(t.Context(), crosscompile.Query{Pattern: "./...", Dir: dir})
	if want := []string{"./a/cmd/a", "./b/cmd/b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if text := told.String(); strings.Count(text, "does not include") != 1 || !strings.Contains(text, "./... does not include ./c, which is a separate module") {
		t.Error(text)
	}
	_, err = g.Find(t.Context(), crosscompile.Query{Pattern: "./none", Dir: dir})
	var pe *crosscompile.PackageError
	if !errors.As(err, &pe) || pe.Way != "main packages nearby: ./a/cmd/a, ./b/cmd/b" {
		t.Errorf("%v", err)
	}
}
