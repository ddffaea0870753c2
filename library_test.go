// These tests check that other projects can use the library: its documentation, its
// examples, and a build in another module.
package mabuild_test

import (
	"bytes"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A program in another module that uses all public packages can be built and run with only
// the module cache.
func TestAnotherModuleUsesTheLibrary(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/library")); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		var said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Stderr = dir, &said
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, &said)
		}
		return string(out)
	}
	run("go", "mod", "edit", "-replace=github.com/mabuild/mabuild="+here)
	program := filepath.Join(t.TempDir(), "stranger")
	run("go", "build", "-o", program, ".")
	if got := run(program, t.TempDir()); got != "linux/arm64\n" {
		t.Errorf("got %q", got)
	}
}

// obvious are methods whose meaning is well known: they need no comment.
var obvious = []string{"Error", "Is", "String", "Unwrap"}

// Every exported name of the library is documented, no exported function has a type in its
// signature that callers cannot name, and each package has examples.
func TestLibraryIsDocumented(t *testing.T) {
	for _, pkg := range public {
		fset := token.NewFileSet()
		files, tests := parsePackage(t, fset, pkg)
		d, err := doc.NewFromFiles(fset, files, module+pkg)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(d.Doc, "\n") < 5 {
			t.Errorf("%s: the doc comment does not show how to use the package", pkg)
		}
		if len(doc.Examples(tests...)) == 0 {
			t.Errorf("%s has no example", pkg)
		}
		documented := func(name, text string) {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s: %s has no doc comment", pkg, name)
			}
		}
		funcs := slices.Clone(d.Funcs)
		values := slices.Concat(d.Consts, d.Vars)
		for _, typ := range d.Types {
			documented(typ.Name, typ.Doc)
			funcs = slices.Concat(funcs, typ.Funcs, typ.Methods)
			values = slices.Concat(values, typ.Consts, typ.Vars)
		}
		for _, v := range values {
			documented(v.Names[0], v.Doc)
		}
		for _, f := range funcs {
			if !slices.Contains(obvious, f.Name) {
				documented(f.Name, f.Doc)
			}
			for _, name := range hidden(f.Decl.Type) {
				t.Errorf("%s: %s has %s in its signature, which callers cannot name", pkg, f.Name, name)
			}
		}
		if len(funcs) == 0 {
			t.Errorf("%s: nothing was checked", pkg)
		}
	}
}

// The comment of an alias of an internal type lists its fields and methods, each with its
// type, and no other: go doc shows a stranger nothing else of them.
func TestAliasesListFieldsAndMethods(t *testing.T) {
	checked := 0
	for _, pkg := range public {
		fset := token.NewFileSet()
		files, _ := parsePackage(t, fset, pkg)
		d, err := doc.NewFromFiles(fset, files, module+pkg)
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range d.Types {
			spec := typ.Decl.Specs[0].(*ast.TypeSpec)
			target, ok := spec.Type.(*ast.SelectorExpr)
			if !ok || !spec.Assign.IsValid() {
				continue
			}
			of := pkg + "/internal/" + types.ExprString(target.X)
			inner, _ := parsePackage(t, fset, of)
			want := membersOf(inner, target.Sel.Name)
			var listed []string
			for line := range strings.Lines(typ.Doc) {
				if strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "\t ") {
					listed = append(listed, strings.Join(strings.Fields(line), " "))
				}
			}
			for _, member := range want {
				checked++
				at := slices.IndexFunc(listed, func(line string) bool { return line == member || strings.HasPrefix(line, member+" ") })
				if at < 0 {
					t.Errorf("%s: the comment of %s does not list %s", pkg, typ.Name, member)
					continue
				}
				listed = slices.Delete(listed, at, at+1)
			}
			for _, line := range listed {
				t.Errorf("%s: the comment of %s lists %q, which it does not have", pkg, typ.Name, line)
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d fields and methods were checked", checked)
	}
}

// membersOf returns the exported fields and methods of a type, as "Name Type" and
// "Name(parameters) results".
func membersOf(files []*ast.File, name string) (all []string) {
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil && n.Name.IsExported() && typeName(n.Recv.List[0].Type) == name {
					all = append(all, n.Name.Name+strings.TrimPrefix(types.ExprString(n.Type), "func"))
				}
				return false
			case *ast.TypeSpec:
				if s, ok := n.Type.(*ast.StructType); ok && n.Name.Name == name {
					for _, field := range s.Fields.List {
						for _, id := range field.Names {
							if id.IsExported() {
								all = append(all, id.Name+" "+types.ExprString(field.Type))
							}
						}
					}
				}
			}
			return true
		})
	}
	return all
}

// parsePackage parses a package's files, and its tests'.
func parsePackage(t *testing.T, fset *token.FileSet, pkg string) (files, tests []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(filepath.FromSlash(pkg), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			tests = append(tests, f)
		} else {
			files = append(files, f)
		}
	}
	return files, tests
}

// hidden returns the types in a signature that are neither exported, nor predeclared, nor
// of another package.
func hidden(signature ast.Node) (names []string) {
	ast.Inspect(signature, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr: // a type of another package
			return false
		case *ast.Field: // the names of parameters are not types
			names = append(names, hidden(n.Type)...)
			return false
		case *ast.Ident:
			if !n.IsExported() && !doc.IsPredeclared(n.Name) {
				names = append(names, n.Name)
			}
		}
		return true
	})
	return names
}
