//go:build unix

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// elsewhere has the messages of docs/errors.md that neither failures nor answers print, and
// the test or script that gets each of them.
var elsewhere = map[string]string{
	"cosign is not on PATH":                                     "testdata/script/sign-cosign.txtar",
	"no Go files in":                                            "testdata/script/packages.txtar",
	"cannot be used, but --require-cache is set":                "testdata/script/warm.txtar",
	"was compiled to another layer than its build record … has": "internal/records/records.go",
	"is not a valid template":                                   "build/template_test.go",
	"no SBOM that mabuild can read":                             "testdata/script/sbom.txtar",
	"no such host":                                              "manifest/registry/internal/transport/rules_test.go",
	"interrupted …: no tag points to an incomplete image":       "testdata/script/interrupt.txtar",
	"internal error: …":                                         "cmd/mabuild/panic_test.go",
	"has another layer than the compiler makes":                 "cmd/mabuild/forged_test.go",
	"the sha256 is …, but … has …":                              "testdata/script/lock.txtar",
	"smoke: …":                                                  "testdata/script/smoke.txtar",
	"smoke: this machine cannot run …":                          "testdata/script/smoke.txtar",
	"no packages for … of …":                                    "testdata/script/debian.txtar",
	"has a script …, which is not run":                          "testdata/script/debian.txtar",
	"depends on …, but the base image has …":                    "testdata/script/debian.txtar",
	"the signature of InRelease is not valid":                   "testdata/script/debian.txtar",
}

// Each heading of docs/errors.md is a message of the code, or of Go or a library as a test
// prints it, and a test gets each of them.
func TestErrorsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/errors.md")
	must(t, err)
	messages, kinds, ok := strings.Cut(string(page), "\n## Kinds and exit codes\n")
	if !ok || kinds == "" {
		t.Fatal("the page has no section about kinds")
	}
	headings := regexp.MustCompile(`(?m)^### (.+)$`).FindAllStringSubmatch(messages, -1)
	if len(headings) < 40 {
		t.Errorf("only %d headings", len(headings))
	}
	var printed []string
	for _, f := range failures {
		printed = append(printed, f.says)
	}
	for _, a := range answers {
		printed = append(printed, a.says+"\n"+a.hint)
	}
	literals, seen := textsOf(t, "../.."), map[string]bool{}
	for _, m := range headings {
		heading := m[1]
		if seen[heading] {
			t.Errorf("%q is there twice", heading)
		}
		seen[heading] = true
		message := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(heading), "…", ".*"))
		got := slices.ContainsFunc(printed, message.MatchString)
		file, there := elsewhere[heading]
		if !got && !there && !slices.ContainsFunc(literals, message.MatchString) {
			t.Errorf("nothing prints %q", heading)
		}
		if got == there {
			t.Errorf("%q: in failures or answers is %t, elsewhere is %q", heading, got, file)
		}
		if there {
			text, err := os.ReadFile(filepath.Join("../..", file))
			must(t, err)
			if !message.Match(text) {
				t.Errorf("%s does not have %q", file, heading)
			}
		}
		// A heading without an explanation helps nobody.
		_, body, _ := strings.Cut(messages, "\n### "+heading+"\n")
		body, _, _ = strings.Cut(body, "\n#")
		if len(strings.Fields(body)) < 4 {
			t.Errorf("%q says too little", heading)
		}
	}
	for heading := range elsewhere {
		if !seen[heading] {
			t.Errorf("docs/errors.md has no %q", heading)
		}
	}
}

// textsOf returns the texts in the code below root. One that is made of several has … for the
// parts that are not constant.
func textsOf(t *testing.T, root string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "examples" || d.Name() == "regtest"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if text := textOf(e); text != "…" {
					all = append(all, text)
					return false
				}
			}
			return true
		})
		return nil
	}))
	return all
}

// textOf returns the text of an expression, with … for what is not constant.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			if left, right := textOf(e.X), textOf(e.Y); left != "…" || right != "…" {
				return left + right
			}
		}
	}
	return "…"
}
