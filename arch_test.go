// This test checks which package may import which (ARCHITECTURE.md).
package mabuild_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const module = "github.com/mabuild/mabuild/"

// allowed lists the packages of this module that each package imports and may import. Tests
// of a package may import more for testing.
var allowed = map[string][]string{
	"build":                                {"crosscompile", "manifest", "manifest/platform", "build/internal/basefs", "build/internal/layerfile", "build/internal/permits", "build/internal/unchanged", "build/internal/sources", "build/internal/specerr", "build/internal/templates", "build/internal/filelist", "build/internal/placement", "build/internal/baseimage", "internal/cache", "internal/elf", "internal/guard", "internal/hint", "internal/rootfs", "internal/intree", "build/internal/archive", "build/internal/debs", "internal/debian"},
	"build/internal/archive":               {"internal/decompress", "internal/hint"},
	"build/internal/debs":                  {"build/internal/basefs", "build/internal/layerfile", "build/internal/specerr", "internal/debian", "internal/hint", "internal/once", "internal/rootfs", "internal/stream"},
	"build/internal/basefs":                {"build/internal/layerfile", "build/internal/specerr", "internal/cache", "internal/elf", "internal/hint", "internal/rootfs", "internal/debian"},
	"build/internal/baseimage":             {"manifest", "manifest/platform", "build/internal/layerfile", "internal/guard", "internal/hint", "internal/once"},
	"build/internal/filelist":              {"build/internal/layerfile", "build/internal/specerr", "internal/intree", "internal/rootfs"},
	"build/internal/layerfile":             {"internal/cache", "internal/once", "internal/rootfs", "internal/stream"},
	"build/internal/permits":               {"internal/cache"},
	"build/internal/placement":             {"build/internal/basefs", "build/internal/layerfile", "build/internal/specerr", "internal/rootfs"},
	"build/internal/sources":               {"crosscompile", "build/internal/specerr", "build/internal/unchanged", "internal/intree"},
	"build/internal/specerr":               {"internal/hint"},
	"build/internal/templates":             {"build/internal/specerr", "internal/hint"},
	"build/internal/unchanged":             {"crosscompile", "internal/cache", "internal/intree", "internal/gocommand"},
	"crosscompile":                         {"manifest/platform", "internal/claim", "internal/elf", "internal/gocommand", "internal/hint", "internal/intree", "internal/once", "internal/outfile", "internal/process", "internal/stream"},
	"manifest":                             {"manifest/platform", "internal/guard", "internal/hint", "internal/rootfs"},
	"manifest/platform":                    {"internal/hint"},
	"manifest/registry":                    {"manifest", "manifest/registry/internal/transport", "internal/cache", "internal/guard", "internal/once", "internal/stream", "internal/verify"},
	"manifest/registry/internal/transport": {"internal/authfile", "internal/hint", "internal/once", "internal/text", "internal/address"},
	"manifest/local":                       {"manifest", "manifest/platform", "internal/claim", "internal/guard", "internal/hint", "internal/imageref", "internal/once", "internal/outfile", "internal/rootfs", "internal/stream", "internal/text", "internal/verify"},
	"internal/address":                     {},
	"internal/authfile":                    {"internal/hint", "internal/outfile", "internal/process", "internal/stream", "internal/text"},
	"internal/assembly":                    {"manifest", "manifest/local", "manifest/platform", "internal/hint", "internal/places", "internal/yamlconf"},
	"internal/attest":                      {"manifest", "manifest/platform", "internal/hint", "internal/rootfs", "internal/sign", "internal/text"},
	"internal/cache":                       {"internal/claim", "internal/hint", "internal/outfile", "internal/stream", "internal/verify"},
	"internal/claim":                       {"internal/intree"},
	"internal/config":                      {"manifest/local", "manifest/platform", "internal/hint", "internal/imageref", "internal/intree", "internal/sign", "internal/yamlconf"},
	"internal/yamlconf":                    {"internal/text"},
	"internal/kube":                        {"manifest", "manifest/platform", "internal/cache", "internal/guard", "internal/hint", "internal/imageref", "internal/once", "internal/text", "internal/yamlconf"},
	"internal/check":                       {"manifest", "manifest/platform", "manifest/registry", "internal/elf", "internal/imageref", "internal/kube", "internal/rootfs"},
	"internal/check/format":                {"internal/check", "internal/text", "internal/web"},
	"internal/metrics":                     {},
	"internal/webhook":                     {"internal/guard", "internal/imageref", "internal/kube", "internal/metrics", "internal/text"},
	"internal/koimport":                    {"manifest/platform", "internal/config", "internal/yamlconf"},
	"internal/lockfile":                    {"internal/hint"},
	"internal/mirrorfile":                  {"manifest", "manifest/platform", "manifest/local", "internal/config", "internal/imageref", "internal/mirror", "internal/yamlconf"},
	"internal/git":                         {"build", "internal/hint", "internal/intree", "internal/text"},
	"internal/debian":                      {"manifest/platform", "internal/decompress", "internal/guard", "internal/hint", "internal/process", "internal/stream", "internal/text"},
	"internal/decompress":                  {"internal/stream"},
	"internal/download":                    {"internal/address", "internal/cache", "internal/hint"},
	"internal/elf":                         {},
	"internal/gocache":                     {},
	"internal/gocommand":                   {},
	"internal/guard":                       {},
	"internal/hint":                        {},
	"internal/imageref":                    {},
	"internal/intree":                      {"internal/hint"},
	"internal/plan":                        {"build", "crosscompile", "manifest/local", "manifest/platform", "internal/assembly", "internal/attest", "internal/config", "internal/debian", "internal/download", "internal/git", "internal/guard", "internal/hint", "internal/imageref", "internal/intree", "internal/lockfile", "internal/places", "internal/publish", "internal/smoke", "internal/yamlconf"},
	"internal/process":                     {},
	"internal/publish":                     {"build", "manifest", "manifest/local", "manifest/platform", "manifest/registry", "internal/attest", "internal/cache", "internal/guard", "internal/imageref", "internal/once", "internal/outfile", "internal/progress", "internal/records", "internal/sign", "internal/smoke"},
	"internal/sign":                        {"internal/hint", "internal/process", "internal/stream", "internal/text"},
	"internal/smoke":                       {"crosscompile", "manifest/local", "manifest/platform", "internal/cache", "internal/elf", "internal/hint", "internal/process", "internal/rootfs", "internal/stream", "internal/text"},
	"internal/stream":                      {},
	"internal/text":                        {},
	"internal/verify":                      {},
	"internal/versions":                    {},
	"internal/mirror":                      {"manifest", "manifest/platform", "manifest/local", "internal/guard", "internal/hint", "internal/imageref", "internal/metrics", "internal/once", "internal/places", "internal/versions"},
	"internal/outfile":                     {},
	"internal/once":                        {},
	"internal/progress":                    {"internal/hint", "internal/text"},
	"internal/places":                      {"manifest", "manifest/local", "manifest/registry", "internal/hint", "internal/imageref", "internal/outfile", "internal/text"},
	"internal/records":                     {"build", "manifest", "manifest/platform", "manifest/registry", "internal/cache", "internal/gocache", "internal/hint", "internal/rootfs", "internal/text"},
	"internal/rootfs":                      {"internal/hint", "internal/stream"},
	"internal/serve":                       {"manifest", "manifest/platform", "internal/stream", "internal/versions", "internal/web"},
	"internal/web":                         {"manifest", "manifest/platform", "internal/text"},
	"internal/regtest":                     {"internal/stream"},
	"internal/regtest/faults":              {}, // tests alone
	"examples/cgo-sqlite":                  {}, // a module of its own
	"examples/hello":                       {},
	"examples/iptables":                    {},
	"examples/library":                     {"build", "crosscompile", "manifest", "manifest/platform", "manifest/registry"},
	"examples/many/cmd/api":                {},
	"examples/many/cmd/worker":             {},
	"examples/web":                         {}, // serves files of its own
	"examples/windows":                     {},
	"examples/run":                         {"manifest", "manifest/platform", "manifest/registry"},
	"cmd/mabuild":                          nil, // all
}

// public are the packages of the library.
var public = []string{"build", "crosscompile", "manifest", "manifest/local", "manifest/platform", "manifest/registry"}

// only lists the packages that may import certain modules.
var only = map[string][]string{
	"github.com/spf13/viper": {"internal/yamlconf"},
	"github.com/spf13/pflag": {"internal/yamlconf", "internal/config", "cmd/mabuild"},
	"github.com/spf13/cobra": {"cmd/mabuild"},
	"go.yaml.in/yaml/v3":     {"internal/yamlconf", "internal/koimport", "internal/kube", "internal/check"},
	"net/http":               {"manifest/registry", "manifest/registry/internal/transport", "manifest/local", "internal/regtest", "internal/download", "internal/plan", "internal/metrics", "internal/serve", "internal/web", "internal/webhook", "cmd/mabuild", "examples/web"},
}

// The test parses the files itself: the test cache would not notice changes in the output
// of go list.
func TestImports(t *testing.T) {
	seen, used := map[string]bool{}, map[[2]string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "judge" || d.Name() == "figures" || strings.HasPrefix(d.Name(), ".") && file != "."):
			return filepath.SkipDir
		case filepath.Ext(file) != ".go" || !strings.ContainsRune(filepath.ToSlash(file), '/'): // tests of the whole module
			return nil
		}
		pkg := path.Dir(filepath.ToSlash(file))
		seen[pkg] = true
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			check(t, file, pkg, imported)
			if ours, ok := strings.CutPrefix(imported, module); ok && !strings.HasSuffix(file, "_test.go") {
				used[[2]string{pkg, ours}] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range seen {
		if _, ok := allowed[pkg]; !ok {
			t.Errorf("%s is not in the list: add it here and in ARCHITECTURE.md", pkg)
		}
	}
	for pkg, list := range allowed {
		for _, ours := range list {
			if !used[[2]string{pkg, ours}] {
				t.Errorf("%s does not import %s: remove it here and in ARCHITECTURE.md", pkg, ours)
			}
		}
	}
	for _, pkg := range []string{"build", "crosscompile", "manifest", "manifest/platform", "manifest/registry", "cmd/mabuild"} {
		if !seen[pkg] {
			t.Errorf("no file of %s was checked", pkg)
		}
	}
}

func check(t *testing.T, file, pkg, imported string) {
	t.Helper()
	test := strings.HasSuffix(file, "_test.go")
	if users, ok := only[imported]; ok && !test && !slices.Contains(users, pkg) {
		t.Errorf("%s imports %s, which only %v may import", file, imported, users)
	}
	ours, ok := strings.CutPrefix(imported, module)
	if !ok || pkg == "cmd/mabuild" || test && (ours == pkg || ours == "internal/regtest") {
		return
	}
	if strings.HasSuffix(file, "example_test.go") && slices.Contains(public, ours) { // as a user of the library does
		return
	}
	if test && !strings.HasPrefix(ours, "cmd/") && pkg != "manifest" && pkg != "manifest/platform" {
		return
	}
	if !slices.Contains(allowed[pkg], ours) {
		t.Errorf("%s imports %s: %s may import %v", file, ours, pkg, allowed[pkg])
	}
}

// The table of ARCHITECTURE.md lists every package with its imports.
func TestPictureAgrees(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\| [A-Z][^|]*\\. \\| ?(.*) \\|$|^\\| `([a-z/]+)` \\| [A-Z][^|]*\\. \\| \\|$").FindAllStringSubmatch(string(text), -1) {
		drawn[row[1]+row[3]] = row[2]
	}
	for pkg, list := range allowed {
		if strings.HasPrefix(pkg, "examples/") || strings.HasSuffix(pkg, "/faults") {
			continue
		}
		want := strings.Join(list, ", ")
		if pkg == "cmd/mabuild" {
			want = "all"
		}
		if imports, ok := drawn[pkg]; !ok || imports != want {
			t.Errorf("ARCHITECTURE.md says that %s imports %q, want %q", pkg, imports, want)
		}
		delete(drawn, pkg)
	}
	for pkg := range drawn {
		t.Errorf("ARCHITECTURE.md has a row for %s, which does not exist", pkg)
	}
}

// The code paths in ARCHITECTURE.md name functions, types and fields that exist: pkg.Name,
// Type.Name, or a single name with a capital letter inside.
func TestPathsNameWhatExists(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := declared(t, false)
	names := regexp.MustCompile("`([A-Za-z]+\\.)?([A-Za-z]+)`").FindAllStringSubmatch(string(text), -1)
	checked := 0
	for _, m := range names {
		of, name := strings.TrimSuffix(m[1], "."), m[2]
		if slices.Contains([]string{"go", "md", "yaml"}, name) || of == "" && strings.ToLower(name[1:]) == name[1:] {
			continue
		}
		if checked++; !exists[m[1]+name] {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", strings.Trim(m[0], "`"))
		}
	}
	if checked < 60 {
		t.Errorf("only %d names were checked", checked)
	}
}

// declared returns the packages and their declarations as pkg.Name, Type.Method, Type.Field
// and Name. With tests it includes test files.
func declared(t *testing.T, tests bool) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for pkg := range allowed {
		files, err := filepath.Glob(filepath.FromSlash(pkg) + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !tests && strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			all[path.Base(pkg)] = true
			note := func(of, name string) { all[of+"."+name], all[name] = true, true }
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					of := path.Base(pkg)
					if n.Recv != nil {
						of = typeName(n.Recv.List[0].Type)
					}
					note(of, n.Name.Name)
					return false
				case *ast.TypeSpec:
					note(path.Base(pkg), n.Name.Name)
					if s, ok := n.Type.(*ast.StructType); ok {
						for _, field := range s.Fields.List {
							for _, name := range field.Names {
								note(n.Name.Name, name.Name)
							}
						}
					}
				}
				return true
			})
		}
	}
	return all
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// ARCHITECTURE.md explains every direct dependency.
func TestEveryDependencyHasItsLine(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for _, r := range f.Require {
		if r.Indirect {
			continue
		}
		direct++
		if !strings.Contains(string(text), r.Mod.Path) {
			t.Errorf("ARCHITECTURE.md does not explain %s", r.Mod.Path)
		}
	}
	if direct == 0 {
		t.Error("no direct dependency was found")
	}
}
