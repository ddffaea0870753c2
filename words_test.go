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

// private lists words that only this project used. CONTRIBUTING.md has the words that
// replace them.
var private = strings.Fields(`
	saw firsthand lacked novel aloof mute vacant turns wire payload sending proving
	errand issuer grant demand manners treatment allowance hurry lastWord lingers
	hollow mislead heal flights flight answers walks gate ticket enroll
	recollection foundation addition vouch distrust everywhere clocks stay
	biller bill desk told unfit settle sight look referring packer carrier preparer
	partly unmetError elsewhere frugal`)

// exceptions are the declarations that may use a word of the list: "package name".
var exceptions = map[string]string{
	"internal/config Issuer":  "of an identity in OpenID Connect",
	"internal/attest Payload": "the field of a DSSE envelope",
	"internal/once Flight":    "as in golang.org/x/sync/singleflight",
	"internal/once flight":    "as above",
	"examples/library look":   "it looks at an image",
	"internal/publish Gate":   "the step before the tags move",
	"internal/sign Payload":   "the field of a DSSE envelope",
}

// No function, type, field, variable or constant outside of tests has a name from the list.
// Of local variables, only those declared with := or var are checked.
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
				t.Errorf("%s declares %s: use the word in CONTRIBUTING.md", set.Position(id.Pos()), id.Name)
			}
		}
	})
	if checked < 5000 {
		t.Errorf("only %d names were checked", checked)
	}
	for key := range exceptions {
		if !used[key] {
			t.Errorf("the exception %q is not used", key)
		}
	}
}

// parsed calls visit for each Go file outside of tests and testdata. The path has slashes.
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
