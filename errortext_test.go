package mabuild_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// otherTexts are the functions that may search the text of an error: "file function". Each
// handles errors of another project that state a fact only in their text.
var otherTexts = map[string]string{
	"internal/yamlconf/decode.go Syntax":                             "go.yaml.in/yaml has the line of a syntax error only in its text",
	"manifest/registry/internal/transport/keychain.go keychainError": "Docker's library appends the output of a helper, which may contain secrets",
}

// searches are the functions that search a text: those of package strings and the methods
// of a regular expression.
var searches = strings.Fields(`
	Contains ContainsAny ContainsFunc ContainsRune Count Cut CutPrefix CutSuffix EqualFold HasPrefix HasSuffix
	Index IndexAny IndexByte LastIndex Match MatchString FindString FindStringSubmatch FindStringIndex FindAllString`)

// No decision depends on the text of an error: no code searches or compares the result of a
// method Error. Texts may change, and a caller may replace them.
func TestErrorTextsAreNotMatched(t *testing.T) {
	used, checked := map[string]bool{}, 0
	parsed(t, func(file string, set *token.FileSet, f *ast.File) {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			for _, at := range matchesIn(fn.Body, &checked) {
				key := file + " " + fn.Name.Name
				if used[key] = true; otherTexts[key] == "" {
					t.Errorf("%s: the text of an error is matched: check a type, a sentinel or a field", set.Position(at))
				}
			}
		}
	})
	if checked < 40 {
		t.Errorf("only %d calls of Error were found", checked)
	}
	for key := range otherTexts {
		if !used[key] {
			t.Errorf("%s no longer matches the text of an error", key)
		}
	}
}

// The check itself finds the matches in an example.
func TestErrorTextMatchesAreFound(t *testing.T) {
	for _, text := range []string{
		`strings.Contains(err.Error(), "x")`, `strings.HasPrefix("x", err.Error())`, `err.Error() == "x"`, `"x" != e.inner.Error()`,
		`re.MatchString(err.Error())`, `text := err.Error(); strings.Index(text, "x")`, `text := strings.ToLower(err.Error()); text == "x"`,
	} {
		for want, text := range map[int]string{1: text, 0: strings.ReplaceAll(text, "Error()", "Name()")} {
			lines := strings.Split(text, "; ")
			lines[len(lines)-1] = "_ = " + lines[len(lines)-1]
			f, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc f() {\n"+strings.Join(lines, "\n")+"\n}\n", parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if found := matchesIn(f.Decls[0].(*ast.FuncDecl).Body, new(int)); len(found) != want {
				t.Errorf("%s: %d found, want %d", text, len(found), want)
			}
		}
	}
}

// matchesIn returns the positions where a function matches the text of an error, directly
// or in a variable. calls counts the calls of Error.
func matchesIn(body *ast.BlockStmt, calls *int) (found []token.Pos) {
	texts := map[string]bool{} // variables with the text of an error
	of := func(e ast.Expr) (yes bool) {
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				yes = yes || isErrorCall(n)
			case *ast.Ident:
				yes = yes || texts[n.Name]
			}
			return !yes
		})
		return yes
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, e := range n.Rhs {
				if id, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) && isText(e, of) {
					texts[id.Name] = true
				}
			}
		case *ast.CallExpr:
			if isErrorCall(n) {
				*calls++
			}
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(searches, s.Sel.Name) && slices.ContainsFunc(n.Args, of) {
				found = append(found, n.Pos())
			}
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isText(n.X, of) || isText(n.Y, of)) {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}

// isText reports whether an expression is the text of an error, or a function of it.
func isText(e ast.Expr, of func(ast.Expr) bool) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return of(e)
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"New", "Errorf"}, s.Sel.Name) {
			return false // a new error
		}
		return isErrorCall(e) || slices.ContainsFunc(e.Args, of)
	}
	return false
}

func isErrorCall(n *ast.CallExpr) bool {
	s, ok := n.Fun.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Error" && len(n.Args) == 0
}
