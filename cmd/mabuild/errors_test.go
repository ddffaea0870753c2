package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A way describes how a user gets an error, and how the test recognizes it.
type way struct {
	is   func(error) bool
	args []string
	env  map[string]string
}

// Every kind of error in docs/errors.md is the result of a run of mabuild, with the exit
// code in its row. docs/errors.md has every error type of the library.
func TestErrors(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	image := regtest.RandomIndex(t, 100, 1, "amd64")
	if err := (&registry.Client{}).Put(t.Context(), r.Host+"/app:v1", image); err != nil {
		t.Fatal(err)
	}
	push := func(more ...string) []string {
		return append([]string{"push", "./ok", "--platforms", "linux/amd64", "-t", r.Host + "/new:v1"}, more...)
	}
	ways := map[string]way{
		"yamlconf.Problem":          {is: as[*yamlconf.Problem], args: push("--config", "wrong.yaml")},
		"build.SpecError":           {is: as[*build.SpecError], args: push("--path", "/", "--ldflags", "{{.Nope}}")},
		"build.BaseError":           {is: as[*build.BaseError], args: push("--base", r.Host+"/nowhere:v1")},
		"build.PlatformError":       {is: as[*build.PlatformError], args: []string{"push", "./bad", "--platforms", "linux/amd64", "-t", r.Host + "/new:v1"}},
		"build: work directory":     {is: of(hint.Build, "work directory "), args: push(), env: map[string]string{"TMPDIR": "nowhere"}},
		"crosscompile.PackageError": {is: as[*crosscompile.PackageError], args: []string{"push", "./nowhere", "--platforms", "linux/amd64", "-t", r.Host + "/new:v1"}},
		"build: modules":            {is: unreachable, args: []string{"push", "example.com/x@v1.0.0", "--platforms", "linux/amd64", "-t", r.Host + "/new:v1"}, env: map[string]string{"GOPROXY": "http://127.0.0.1:1", "GOMODCACHE": "modules", "GOFLAGS": "-modcacherw"}},
		"crosscompile.CommandError": {is: as[*crosscompile.CommandError], args: []string{"push", "./bad", "--platforms", "linux/amd64", "-t", r.Host + "/new:v1"}},
		"crosscompile.ErrNoGo":      {is: func(err error) bool { return errors.Is(err, crosscompile.ErrNoGo) }, args: push(), env: map[string]string{"PATH": "nowhere"}},
		"build: format":             {is: of(hint.Build, "not an executable of the platform"), args: push(), env: map[string]string{"PATH": "odd"}},
		"crosscompile.TargetError":  {is: as[*crosscompile.TargetError], args: push("--platforms", "linux/sparc64")},
		"build.DebuggerError":       {is: as[*build.DebuggerError], args: push("--platforms", "linux/s390x", "--debug")},
		"usage: C compiler":         {is: of(hint.Usage, "no custom C compiler"), args: push("--platforms", "linux/arm64", "--cgo-toolchain", "custom")},
		"build: linkage":            {is: of(hint.Build, "requires the loader"), args: []string{"build", "./c", "-o", "oci:out", "--platforms", "linux/amd64", "--cgo"}},
		"usage: variant": {is: func(err error) bool {
			return as[*crosscompile.TargetError](err) && strings.Contains(err.Error(), "no variant")
		}, args: push("--platforms", "linux/amd64/v9")},
		"platform.ParseError":    {is: as[*platform.ParseError], args: []string{"inspect", "--platform", "arm64", r.Host + "/app:v1"}},
		"manifest.PlatformError": {is: as[*manifest.PlatformError], args: []string{"inspect", "--platform", "linux/s390x", r.Host + "/app:v1"}},
		"usage: archive format":  {is: of(hint.Usage, "not a tar file"), args: []string{"inspect", "oci-archive:go.mod"}},
		"local.SeveralError":     {is: as[*local.SeveralError], args: []string{"inspect", "--raw", "oci:several"}},
		"local.AbsentError":      {is: as[*local.AbsentError], args: []string{"inspect", "oci:several:a"}},
		"manifest.AssemblyError": {is: as[*manifest.AssemblyError], args: []string{"manifest", "create", r.Host + "/new:v1", r.Host + "/app:v1", "--select", "linux/s390x"}},
		"name.ErrBadName":        {is: as[*name.ErrBadName], args: []string{"inspect", "ghcr.io/-x/app"}},
		"registry.Error":         {is: as[*registry.Error], args: []string{"inspect", r.Host + "/nowhere:v1"}},
	}
	codes := documented(t)
	codes["registry.Error"] = exitUsage // of its kind "not found", for an image that was named
	for kind, code := range codes {
		t.Run(kind, func(t *testing.T) {
			w, ok := ways[kind]
			if !ok {
				t.Fatal("nothing produces it")
			}
			astray(t)
			for key, value := range w.env {
				abs, err := filepath.Abs(value)
				if err != nil {
					t.Fatal(err)
				}
				if key == "GOPROXY" || key == "GOFLAGS" {
					abs = value
				}
				t.Setenv(key, abs)
			}
			a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
			defer a.close()
			root := newRoot(a)
			root.SetArgs(w.args)
			root.SetOut(io.Discard)
			root.SetErr(io.Discard)
			err := root.ExecuteContext(t.Context())
			if err == nil || !w.is(err) || exitCode(err) != code {
				t.Errorf("exit code %d, %T: %[2]v", exitCode(err), err)
			}
		})
	}
	for _, kind := range typesOfErrors(t) {
		if _, ok := codes[kind]; !ok {
			t.Errorf("docs/errors.md has no %s", kind)
		}
	}
}

// of returns a check for errors without a separate type, by their kind and a part of their
// text.
func of(kind hint.Kind, text string) func(error) bool {
	return func(err error) bool {
		return as[*hint.Error](err) && kindOf(err) == kind && strings.Contains(err.Error(), text)
	}
}

// unreachable reports whether the modules of a package could not be fetched.
func unreachable(err error) bool {
	var pe *crosscompile.PackageError
	return errors.As(err, &pe) && pe.Unreachable
}

// astray makes a module and prepares the ways to fail, and changes to its directory.
func astray(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.26\n", "ok/main.go": "package main\n\nfunc main() {}\n",
		"c/main.go":   "package main\n\n// #include <stdlib.h>\nimport \"C\"\n\nfunc main() { C.abort() }\n",
		"bad/main.go": "package main\n\nfunc main() { nothing() }\n", "wrong.yaml": "platfrms: []\n",
		"several/oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "several/index.json": `{"schemaVersion":2,"manifests":[` + entryOf("b") + "," + entryOf("a") + "]}",
		"odd/go": "#!/bin/sh\ncase $1 in\nenv) echo '{\"GOROOT\":\"/nowhere\"}' ;;\nlist) echo '{\"ImportPath\":\"x\",\"Name\":\"main\"}' ;;\ntool) echo linux/amd64 ;;\n" +
			"build) for a; do case $last in -o) echo text >$a ;; esac; last=$a; done ;;\nesac\n",
	} {
		file = filepath.Join(dir, filepath.FromSlash(file))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("MABUILD_CACHE", filepath.Join(dir, "cache"))
	t.Setenv("TMPDIR", dir)
}

// entryOf is an entry of a layout's index.json.
func entryOf(name string) string {
	return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha256:%064x","annotations":{"org.opencontainers.image.ref.name":%q}}`, name, name)
}

// documented returns the exit codes of the errors that docs/errors.md has rows for.
func documented(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| `?(\\w+\\.\\w+|(?:usage|build|content|credentials): [\\w ]+)`? \\|.*\\| ([0-9]) \\|$").FindAllStringSubmatch(string(text), -1) {
		codes[row[1]], _ = strconv.Atoi(row[2])
	}
	return codes
}

// typesOfErrors returns the exported types of the library, and of the
// configuration, that are errors.
func typesOfErrors(t *testing.T) (all []string) {
	t.Helper()
	for _, dir := range []string{"build", "crosscompile", "manifest", "internal/yamlconf"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			if strings.Contains(strings.TrimPrefix(filepath.ToSlash(path), "../../"+dir), "/internal/") {
				return nil // its errors are those of the aliases of the library
			}
			for _, decl := range f.Decls {
				if types, ok := decl.(*ast.GenDecl); ok && types.Tok == token.TYPE {
					if spec := types.Specs[0].(*ast.TypeSpec); isErrorAlias(spec) {
						all = append(all, fmt.Sprintf("%s.%s", f.Name.Name, spec.Name.Name))
					}
					continue
				}
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || fn.Recv == nil || fn.Name.Name != "Error" || fn.Type.Params.NumFields() != 0 {
					continue
				}
				of := fn.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				if id, ok := of.(*ast.Ident); ok && id.IsExported() {
					all = append(all, fmt.Sprintf("%s.%s", f.Name.Name, id.Name))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	if len(all) < 12 {
		t.Errorf("only %v", all)
	}
	return all
}
