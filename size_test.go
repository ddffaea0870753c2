package mabuild_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A size measures how much a reader has to read.
type size struct {
	files, lines, comments     int // comments: lines that consist of a comment
	structs, structsExported   int // struct types
	publicPackages, publicName int // exported names of the public packages
}

// TestSize counts the files, lines, struct types and exported names of this module without
// tests and testdata. go test -v -run TestSize prints them.
func TestSize(t *testing.T) {
	var all size
	packages := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") && file != "."):
			return filepath.SkipDir
		case filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		pkg := path.Dir(filepath.ToSlash(file))
		packages[pkg] = true
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return all.add(raw, slices.Contains(public, pkg))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range public {
		if packages[pkg] {
			all.publicPackages++
		}
	}
	t.Logf("%d files, %d lines, of which %.1f %% are comments", all.files, all.lines, 100*float64(all.comments)/float64(all.lines))
	t.Logf("%d struct types, of which %d are exported", all.structs, all.structsExported)
	t.Logf("%d exported names in %d public packages", all.publicName, all.publicPackages)
	if all.publicPackages != len(public) || all.structs == 0 || all.comments == 0 {
		t.Errorf("a count is too small: %+v", all)
	}
}

// add counts one file.
func (s *size) add(raw []byte, public bool) error {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "", raw, parser.ParseComments)
	if err != nil {
		return err
	}
	s.files++
	s.lines += bytes.Count(raw, []byte("\n"))
	lines := strings.Split(string(raw), "\n")
	for _, group := range f.Comments {
		for line := files.Position(group.Pos()).Line; line <= files.Position(group.End()).Line; line++ {
			if text := strings.TrimSpace(lines[line-1]); strings.HasPrefix(text, "//") || !strings.HasPrefix(text, "package ") && line > files.Position(group.Pos()).Line {
				s.comments++
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if _, ok := spec.Type.(*ast.StructType); ok {
				s.structs++
				if spec.Name.IsExported() {
					s.structsExported++
				}
			}
		}
		return true
	})
	if public {
		s.publicName += exported(f)
	}
	return nil
}

// exported counts the names that a file adds to the documentation of its package: types,
// functions, methods of exported types, variables and constants.
func exported(f *ast.File) (n int) {
	for _, decl := range f.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Name.IsExported() && (decl.Recv == nil || ast.IsExported(receiver(decl))) {
				n++
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						n++
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						if name.IsExported() {
							n++
						}
					}
				}
			}
		}
	}
	return n
}

// receiver returns the name of the type that a method belongs to.
func receiver(fn *ast.FuncDecl) string {
	of := fn.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
