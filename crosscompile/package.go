package crosscompile

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/mod/module"

	"github.com/mabuild/mabuild/internal/hint"
)

// A Package is a main package that was found.
type Package struct {
	Dir        string // where the go command runs to build it
	ImportPath string // what it builds there, a directory perhaps
	PkgPath    string // its import path, also where ImportPath is a directory
	Name       string // of the program: the path's last element that is no major version
	Module     string // the module it is in, "" for the standard library's
	Version    string // that module's version, "" for the module at hand
}

// A Query says which package is wanted.
type Query struct {
	// Pattern is a directory (it has a path separator at its head, or exists),
	// an import path of the module or workspace at Dir, or
	// module/path@version, which comes from the module proxy.
	Pattern string
	Dir     string // "": the working directory
	Scratch string // where a module for module/path@version may be made
	// AsMain builds module/path@version as its own main module, so that its
	// replace and exclude lines hold, where otherwise they are refused as
	// `go install` does.
	AsMain bool
	// Aims are tried in turn where build constraints leave a package without
	// files; none stands for the host.
	Aims []Aim
}

// An Aim is what a package is to be built for, as far as that decides which of
// its files count.
type Aim struct {
	Platform ocispec.Platform
	Tags     []string
	Cgo      bool
}

// A PackageError says that what was asked for is no main package.
type PackageError struct {
	Pattern string
	Reason  string
	Way     string
	Ignored []string // directives of its go.mod that apply only to the main module
}

func (e *PackageError) Error() string {
	if e.Pattern == "" {
		return e.Reason
	}
	return fmt.Sprintf("package %s: %s", e.Pattern, e.Reason)
}

// Is reports whether target is the kind of the error.
func (*PackageError) Is(target error) bool { return target == hint.Usage }

// Hint returns the way out.
func (e *PackageError) Hint() string { return e.Way }

// Find resolves q to a main package, which it reads and does not compile. What
// is no main package is a [*PackageError] that names the mains nearby.
func (g *Go) Find(ctx context.Context, q Query) (Package, error) {
	if q.Pattern == "" {
		q.Pattern = "."
	}
	if strings.HasPrefix(q.Pattern, "-") {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "begins with a dash", Way: "a package is a directory, an import path or module/path@version"}
	}
	if IsPattern(q.Pattern) || slices.Contains([]string{"all", "std", "cmd", "tool", "work"}, q.Pattern) {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is a pattern, but a single package is required", Way: "name the main package, or several of them"}
	}
	if pkg, version, ok := strings.Cut(q.Pattern, "@"); ok && !isDir(q.Dir, q.Pattern) {
		return g.findVersion(ctx, q, pkg, version)
	}
	if isLocal(q.Pattern) || isDir(q.Dir, q.Pattern) || strings.HasSuffix(q.Pattern, ".go") {
		return g.findDir(ctx, q)
	}
	return g.list(ctx, q, q.Dir, q.Pattern)
}

// findDir finds the package of a directory: as one of the module at q.Dir, so
// that the compiler names files as the person does, or of its own.
func (g *Go) findDir(ctx context.Context, q Query) (Package, error) {
	dir := q.Pattern
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(q.Dir, dir)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "no such directory", Way: g.nearby(ctx, q.Dir)}
	case err != nil:
		return Package{}, err
	case !info.IsDir() && filepath.Ext(dir) == ".go" && info.Mode().IsRegular(): // its package
		q.Pattern, dir = filepath.Dir(q.Pattern), filepath.Dir(dir)
	case !info.IsDir():
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is a file", Way: "name the directory of the main package"}
	}
	if !filepath.IsAbs(q.Pattern) {
		relative := filepath.ToSlash(filepath.Clean(q.Pattern))
		if !isLocal(relative) {
			relative = "./" + relative
		}
		if found, err := g.list(ctx, q, q.Dir, relative); err == nil || ctx.Err() != nil {
			return found, err
		}
	}
	return g.list(ctx, q, dir, ".")
}

// isLocal reports whether the go command would take pattern for a directory.
func isLocal(pattern string) bool {
	slashed := filepath.ToSlash(pattern)
	return slashed == "." || slashed == ".." || strings.HasPrefix(slashed, "./") || strings.HasPrefix(slashed, "../") || filepath.IsAbs(pattern)
}

func isDir(dir, pattern string) bool {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	info, err := os.Stat(pattern)
	return err == nil && info.IsDir()
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Name, Dir string
	IgnoredGoFiles        []string // by build constraints
	Module                *struct{ Path, Version, GoMod, Dir, GoVersion string }
	Error                 *struct{ Pos, Err string }
}

// broken says what is wrong with a package that cannot be read: its clause, two packages
// in one directory, a file without permission. That build constraints leave none of its
// files is no fault of the package.
func (p listed) broken() string {
	if p.Error == nil {
		return ""
	}
	if p.Error.Pos == "" {
		return strings.TrimSpace(p.Error.Err)
	}
	return p.Error.Pos + ": " + strings.TrimSpace(p.Error.Err)
}

// list asks the go command in dir about pattern, which the person wrote as
// q.Pattern.
func (g *Go) list(ctx context.Context, q Query, dir, pattern string) (Package, error) {
	asked := q.Pattern
	p, err := g.query(ctx, q, dir, pattern)
	var ce *CommandError
	if errors.As(err, &ce) && ce.answered() {
		if tc, err := g.inModule(ctx, dir); err == nil { // then it is the modules that it needs
			return Package{}, tc.unreachable(asked, withoutDownloads(ce.Error()))
		}
		return Package{}, &PackageError{Pattern: asked, Reason: withoutDownloads(ce.Error()), Way: cmp.Or(wayOf(ce.Output), "run mabuild in a module, or name module/path@version")}
	}
	if err != nil {
		return Package{}, err
	}
	switch {
	case p.Name == "main":
	case p.Error != nil && p.Name == "":
		return Package{}, &PackageError{Pattern: asked, Reason: p.broken(), Way: wayBeside(wayOf(p.Error.Err), g.nearby(ctx, dir))}
	default:
		return Package{}, &PackageError{Pattern: asked, Reason: "is package " + p.Name + ", not main", Way: g.nearby(ctx, dir)}
	}
	pkg := Package{Dir: dir, ImportPath: p.ImportPath, PkgPath: p.ImportPath, Name: programName(p.ImportPath)}
	if isLocal(pattern) { // no import path may lead to it, and its errors name files better
		pkg.ImportPath = pattern
	}
	if p.Module != nil {
		pkg.Module, pkg.Version = p.Module.Path, p.Module.Version
	}
	return pkg, nil
}

// wayBeside joins the way out of what Go says of a package with the programs nearby, which
// beat adding what nobody has to a module.
func wayBeside(way, nearby string) string {
	if way == "" || way == wayTidy {
		return nearby
	}
	return way + "; " + nearby
}

// query asks for one package, for each aim until one has files of it.
func (g *Go) query(ctx context.Context, q Query, dir, pattern string) (p listed, err error) {
	for i, aim := range q.aims() {
		all, err := g.listAll(ctx, aim, dir, pattern)
		if err != nil {
			return p, err
		}
		if i == 0 || all[0].Name != "" {
			p = all[0]
		}
		if p.Name != "" || len(p.IgnoredGoFiles) == 0 {
			break
		}
	}
	return p, nil
}

// inModule returns the toolchain of dir if dir is in a module or workspace that the
// go command can read, for which it looks at nothing else.
func (g *Go) inModule(ctx context.Context, dir string) (*toolchain, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	out, err := runGo(ctx, process{bin: tc.bin, dir: dir, env: tc.env, args: []string{"list", "-m", "-f", "{{.GoMod}}"}})
	if err == nil && len(bytes.TrimSpace(out)) == 0 {
		err = errors.New("no module")
	}
	return tc, err
}

// nearby names the main packages of the module that dir is in, as a hint.
func (g *Go) nearby(ctx context.Context, dir string) string {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return ""
	}
	const most = 8
	var mains []string
	root, ok := ModuleRoot(dir)
	if !ok {
		root = dir
	}
	places := g.workspace(dir)
	for _, where := range append([]string{dir, root}, places...) {
		out, err := runGo(ctx, process{bin: tc.bin, dir: where, env: tc.env, args: []string{
			"list", "-e", "-find", "-f", `{{if eq .Name "main"}}{{.Dir}}{{end}}`, "./...",
		}})
		if found := strings.Fields(string(out)); err == nil {
			mains = append(mains, found...)
		}
		if len(mains) > 0 && where == root {
			break
		}
	}
	slices.Sort(mains)
	mains = slices.Compact(mains)
	for i, m := range mains {
		if rel, err := filepath.Rel(dir, m); err == nil && rel != "." {
			mains[i] = "./" + filepath.ToSlash(rel)
		}
	}
	if len(mains) > most {
		mains = append(mains[:most], fmt.Sprintf("and %d more", len(mains)-most))
	}
	if len(mains) > 0 {
		return "main packages nearby: " + strings.Join(mains, ", ")
	}
	return "there is no main package nearby"
}

// ModuleRoot returns the nearest directory above dir with a go.mod, or dir itself; ok is
// false where there is none.
func ModuleRoot(dir string) (root string, ok bool) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	for at := abs; ; at = filepath.Dir(at) {
		if info, err := os.Stat(filepath.Join(at, "go.mod")); err == nil && !info.IsDir() {
			return at, true
		}
		if at == filepath.Dir(at) {
			return "", false
		}
	}
}

// programName is the name that the go command gives a program: the last element
// of its path, or the one before where that is a major version.
func programName(importPath string) string {
	name := path.Base(importPath)
	if prefix, major, ok := module.SplitPathVersion(importPath); ok && major != "" && prefix != "" {
		name = path.Base(prefix)
	}
	return name
}
