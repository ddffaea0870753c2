package mabuild_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// private has the words that once named things in this project alone. CONTRIBUTING.md has
// the field's words for them.
var private = strings.Fields(`
	saw firsthand lacked novel aloof mute vacant turns wire payload sending proving
	errand issuer grant demand manners treatment allowance hurry lastWord lingers
	hollow mislead heal flights flight answers walks gate ticket enroll
	recollection foundation addition vouch distrust everywhere clocks stay
	biller bill desk told unfit settle sight look referring packer carrier preparer
	partly unmetError elsewhere frugal`)

// exceptions are declared under a word of the list all the same: "package name".
var exceptions = map[string]string{
	"internal/once Flight":  "as in golang.org/x/sync/singleflight",
	"internal/once flight":  "as above",
	"examples/library look": "it looks at an image",
	"internal/publish Gate": "the step before the tags move",
}

// No function, type, field, variable or constant outside of tests has a word of the list.
// Of a function's own variables those count that are declared in it with := or var.
func TestWordsOfTheField(t *testing.T) {
	banned := map[string]bool{}
	for _, word := range private {
		banned[strings.ToLower(word)] = true
	}
	checked, used := 0, map[string]bool{}
	parsed(t, func(file string, set *token.FileSet, f *ast.File) {
		dir := path.Dir(file)
		for _, id := range declaredIn(f) {
			checked++
			if !banned[strings.ToLower(id.Name)] {
				continue
			}
			key := dir + " " + id.Name
			if used[key] = true; exceptions[key] == "" {
				t.Errorf("%s declares %s: CONTRIBUTING.md has the field's word for it", set.Position(id.Pos()), id.Name)
			}
		}
	})
	if checked < 5000 {
		t.Errorf("only %d names were checked", checked)
	}
	for key := range exceptions {
		if !used[key] {
			t.Errorf("nothing is declared as the exception %q says", key)
		}
	}
}

// parsed calls visit for each Go file outside of tests and testdata, by its path with
// slashes.
func parsed(t *testing.T, visit func(file string, set *token.FileSet, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != "."):
			return filepath.SkipDir
		case filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(file), set, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// declaredIn returns the names that a file declares.
func declaredIn(f *ast.File) (list []*ast.Ident) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			list = append(list, n.Name)
		case *ast.TypeSpec:
			list = append(list, n.Name)
		case *ast.ValueSpec:
			list = append(list, n.Names...)
		case *ast.Field:
			list = append(list, n.Names...)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if id, ok := e.(*ast.Ident); ok {
						list = append(list, id)
					}
				}
			}
		}
		return true
	})
	return list
}
