// This test compares docs/limits.md with the constants in the code.
package mabuild_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// internalLimits are limits that users cannot reach.
var internalLimits = map[string]bool{"internal/rootfs.maxGarbage": true}

var units = map[string]int64{
	"": 1, "bytes": 1, "levels": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	"ms": int64(time.Millisecond), "s": int64(time.Second), "min": int64(time.Minute), "h": int64(time.Hour),
}

// The row of a limit ends with its value, what happens above it, and the constant.
var limitRow = regexp.MustCompile("(?m)^\\|.*\\| ([0-9,]+) ?([A-Za-z]*) \\|[^|]*\\| `([^`|]+\\.[A-Za-z]+)` \\|$")

// docs/limits.md has every limit with its current value.
func TestLimitsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, packages := map[string]bool{}, map[string]map[string]ast.Expr{}
	for _, row := range limitRow.FindAllStringSubmatch(string(text), -1) {
		number, err := strconv.ParseInt(strings.ReplaceAll(row[1], ",", ""), 10, 64)
		unit, ok := units[row[2]]
		if err != nil || !ok {
			t.Errorf("%s: not a number with a unit: %s %s", row[3], row[1], row[2])
			continue
		}
		dir, name := row[3][:strings.LastIndex(row[3], ".")], path.Ext(row[3])[1:]
		documented[row[3]] = true
		if packages[dir] == nil {
			packages[dir] = constants(t, dir)
		}
		if is, exact := constant.Int64Val(value(packages[dir], packages[dir][name])); !exact || is != number*unit {
			t.Errorf("docs/limits.md has %s %s for %s, but the value is %d", row[1], row[2], row[3], is)
		}
	}
	if len(documented) < 60 {
		t.Errorf("only %d limits were read", len(documented))
	}
	for dir, all := range packages {
		for name := range all {
			if at := dir + "." + name; strings.HasPrefix(strings.ToLower(name), "max") && !documented[at] && !internalLimits[at] {
				t.Errorf("docs/limits.md does not list %s", at)
			}
		}
	}
}

// constants returns the constants and variables of a package that have a value in their
// declaration.
func constants(t *testing.T, dir string) map[string]ast.Expr {
	t.Helper()
	files, err := filepath.Glob(filepath.FromSlash(dir) + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]ast.Expr{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for i := range v.Values {
						all[v.Names[i].Name] = v.Values[i]
					}
				}
			}
		}
	}
	return all
}

var durations = map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}

// value computes the value of e, a number or a duration.
func value(all map[string]ast.Expr, e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.ParenExpr:
		return value(all, e.X)
	case *ast.Ident:
		return value(all, all[e.Name])
	case *ast.SelectorExpr: // a constant of package time
		return constant.MakeInt64(int64(durations[e.Sel.Name]))
	case *ast.BinaryExpr:
		x, y := value(all, e.X), value(all, e.Y)
		if x.Kind() != constant.Int || y.Kind() != constant.Int {
			break
		}
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, token.SHL, uint(n))
		}
		return constant.BinaryOp(x, e.Op, y)
	}
	return constant.MakeUnknown()
}
