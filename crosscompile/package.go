package crosscompile

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/gocommand"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
)

// A Package is a main package that was found. It is comparable, and can be stored as
// JSON.
type Package struct {
	Dir        string // the directory in which the go command builds it
	ImportPath string // its name for the go command there: an import path or a directory
	PkgPath    string // its import path, also if ImportPath is a directory
	Name       string // of the program: the last element of the path but for a major version
	Module     string // its module, "" for the standard library
	Version    string // of the module, "" for a module in a directory
}

// A Query says which package to find.
type Query struct {
	// Pattern is a directory (it begins with a path separator or a dot, or exists), an
	// import path in the module or workspace at Dir, or module/path@version, which the
	// module proxy has.
	Pattern string
	Dir     string // "": the working directory
	Scratch string // an existing or new directory for modules of module/path@version
	// AsMain builds module/path@version as the main module, so that its replace and
	// exclude lines apply. Otherwise a module with such lines is an error, as for `go
	// install`.
	AsMain bool
	// Aims are tried one after another until the package has files for one of them.
	// Without any, the host is used.
	Aims []Aim
	// Known are the names of programs, as [Go.Mains] would return them, that it leaves out
	// in silence, because the caller has them already.
	Known []string
}

// An Aim has the settings that decide which files belong to a package (build
// constraints).
type Aim struct {
	Platform ocispec.Platform
	Tags     []string
	Cgo      bool
}

// A PackageError says that a pattern does not name a main package, or that the modules of
// the package could not be fetched.
type PackageError struct {
	Pattern string // as in the Query
	Reason  string
	Way     string
	Ignored []string // directives of its go.mod that apply only to the main module
	// Unreachable is set if a module proxy or a repository did not answer, or gave an
	// invalid answer. The package may exist. Reason is the text of the go command.
	Unreachable bool
}

func (e *PackageError) Error() string {
	switch {
	case e.Unreachable:
		return fmt.Sprintf("modules of %s: %s", e.Pattern, e.Reason)
	case e.Pattern == "":
		return e.Reason
	}
	return fmt.Sprintf("package %s: %s", e.Pattern, e.Reason)
}

// Is reports whether target is the kind of the error.
func (e *PackageError) Is(target error) bool { return target == hint.Usage && !e.Unreachable }

// Hint returns what the user can do.
func (e *PackageError) Hint() string { return e.Way }

// Find resolves q to a main package without compiling it. A pattern that does not name a
// main package is a [*PackageError], whose hint has the main packages nearby. It is also
// the error for modules that cannot be fetched.
func (g *Go) Find(ctx context.Context, q Query) (Package, error) {
	if q.Pattern == "" {
		q.Pattern = "."
	}
	if strings.HasPrefix(q.Pattern, "-") {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "begins with a dash", Way: "a package is a directory, an import path or module/path@version"}
	}
	// The go command has these names for sets of packages.
	if isPattern(q.Pattern) || slices.Contains([]string{"all", "std", "cmd", "tool", "work"}, q.Pattern) {
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is a pattern, but a single package is required", Way: "name the main package, or several of them"}
	}
	// A directory may have @ in its name, and existing directories come first.
	if pkg, version, ok := strings.Cut(q.Pattern, "@"); ok && !isDir(q.Dir, q.Pattern) {
		return g.findVersion(ctx, q, pkg, version)
	}
	if isLocal(q.Pattern) || isDir(q.Dir, q.Pattern) || strings.HasSuffix(q.Pattern, ".go") {
		return g.findDir(ctx, q)
	}
	return g.list(ctx, q, q.Dir, q.Pattern)
}

// findDir finds the package in a directory. It first asks in the module at q.Dir, so that
// compiler errors name files relative to the directory of the user. Otherwise the
// directory belongs to another module, and the go command runs in it.
func (g *Go) findDir(ctx context.Context, q Query) (Package, error) {
	dir := q.Pattern
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(q.Dir, dir)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "no such directory", Way: g.nearby(ctx, q.Dir, q.Dir)}
	case err != nil:
		return Package{}, err
	case !info.IsDir() && filepath.Ext(dir) == ".go" && info.Mode().IsRegular(): // use its directory
		q.Pattern, dir = filepath.Dir(q.Pattern), filepath.Dir(dir)
	case !info.IsDir():
		return Package{}, &PackageError{Pattern: q.Pattern, Reason: "is a file", Way: "name the directory of the main package"}
	}
	if !filepath.IsAbs(q.Pattern) {
		relative := filepath.ToSlash(filepath.Clean(q.Pattern))
		if !isLocal(relative) {
			relative = "./" + relative
		}
		// If this fails, the next attempt has the error for the user: the directory may
		// be in another module, for which the module at q.Dir is not responsible.
		if found, err := g.list(ctx, q, q.Dir, relative); err == nil || ctx.Err() != nil {
			return found, err
		}
	}
	return g.list(ctx, q, dir, ".")
}

// isLocal reports whether the go command takes pattern for a directory.
func isLocal(pattern string) bool {
	slashed := filepath.ToSlash(pattern)
	return slashed == "." || slashed == ".." || strings.HasPrefix(slashed, "./") || strings.HasPrefix(slashed, "../") || filepath.IsAbs(pattern)
}

// isDir reports whether pattern, relative to dir, is an existing directory.
func isDir(dir, pattern string) bool {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	info, err := os.Stat(pattern)
	return err == nil && info.IsDir()
}

// A listed is a package in the output of `go list -json`. Name is empty if the go command
// could not read a file of the package.
type listed struct {
	ImportPath, Name, Dir string
	GoFiles, CgoFiles     []string
	IgnoredGoFiles        []string // by build constraints
	Module                *goModule
	Error                 *struct{ Pos, Err string }
}

// broken returns the error of a package that cannot be read, such as a wrong package
// clause or a file without permission.
func (p listed) broken() string {
	if p.Error == nil {
		return ""
	}
	if p.Error.Pos == "" {
		return strings.TrimSpace(p.Error.Err)
	}
	return p.Error.Pos + ": " + strings.TrimSpace(p.Error.Err)
}

// list runs the go command in dir to find the package pattern. Errors name q.Pattern,
// which is what the user wrote.
func (g *Go) list(ctx context.Context, q Query, dir, pattern string) (Package, error) {
	asked := q.Pattern
	p, err := g.query(ctx, q, dir, pattern)
	var ce *CommandError
	if errors.As(err, &ce) && ce.answered() {
		if tc, err := g.inModule(ctx, dir); err == nil { // so a required module is missing
			return Package{}, tc.unreachable(asked, withoutDownloads(ce.Error()))
		}
		return Package{}, &PackageError{Pattern: asked, Reason: withoutDownloads(ce.Error()), Way: cmp.Or(wayOf(ce.Output), "run mabuild in a module, or name module/path@version")}
	}
	if err != nil {
		return Package{}, err
	}
	switch {
	// An error in the package is left to the compiler, which describes it better.
	case p.Name == "main":
	case p.Error != nil && p.Name == "":
		return Package{}, &PackageError{Pattern: asked, Reason: p.broken(), Way: wayBeside(wayOf(p.Error.Err), g.nearby(ctx, dir, q.Dir))}
	default:
		return Package{}, &PackageError{Pattern: asked, Reason: "is package " + p.Name + ", not main", Way: g.nearby(ctx, dir, q.Dir)}
	}
	pkg := Package{Dir: dir, ImportPath: p.ImportPath, PkgPath: p.ImportPath, Name: gocommand.ProgramName(p.ImportPath)}
	if isLocal(pattern) { // errors then name files relative to the directory
		pkg.ImportPath = pattern
	}
	if p.Module != nil {
		pkg.Module, pkg.Version = p.Module.Path, p.Module.Version
	}
	return pkg, nil
}

// wayBeside joins the hint for an error of Go with the main packages nearby. For a
// package that is probably misspelled, go mod tidy does not help, so the hint leaves it out.
func wayBeside(way, nearby string) string {
	if way == "" || way == wayTidy {
		return nearby
	}
	return way + "; " + nearby
}

// query returns one package. It tries each aim until the package has files for one. If it
// has files for none, the result is that of the first aim.
func (g *Go) query(ctx context.Context, q Query, dir, pattern string) (p listed, err error) {
	for i, aim := range q.aims() {
		all, err := g.listAll(ctx, aim, dir, pattern)
		if err != nil {
			return p, err
		}
		if i == 0 || all[0].Name != "" {
			p = all[0]
		}
		// Only build constraints can be different for the next aim.
		if p.Name != "" || len(p.IgnoredGoFiles) == 0 {
			break
		}
	}
	return p, nil
}

// inModule returns the toolchain of dir, and an error if dir is not in a module or
// workspace that the go command can read. This does not need the required modules.
func (g *Go) inModule(ctx context.Context, dir string) (*toolchain, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	out, err := tc.run(ctx, dir, "list", "-m", "-f", "{{.GoMod}}")
	if err == nil && len(bytes.TrimSpace(out)) == 0 {
		err = errors.New("no module")
	}
	return tc, err
}

// nearby returns a hint with the main packages of the module that dir is in. It is "" if
// no go command can be used. The packages are written as PACKAGE is, relative to base.
func (g *Go) nearby(ctx context.Context, dir, base string) string {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return ""
	}
	const most = 8
	var mains []string
	root, ok := intree.ModuleRoot(dir)
	if !ok {
		root = dir
	}
	places := g.workspace(dir)
	// The modules of the workspace are listed only if neither dir nor its module has a
	// program.
	for _, where := range append([]string{dir, root}, places...) {
		out, err := tc.run(ctx, where, "list", "-e", "-find", "-f", `{{if eq .Name "main"}}{{.Dir}}{{end}}`, "./...")
		if found := strings.Fields(string(out)); err == nil {
			mains = append(mains, found...)
		}
		if len(mains) > 0 && where == root {
			break
		}
	}
	slices.Sort(mains)
	mains = slices.Compact(mains)
	from, err := filepath.Abs(base)
	if real, rerr := filepath.EvalSymlinks(from); rerr == nil {
		from = real
	}
	for i, m := range mains {
		if rel, rerr := filepath.Rel(from, m); err == nil && rerr == nil {
			mains[i] = strings.TrimSuffix(strings.Replace("./"+filepath.ToSlash(rel), "./../", "../", 1), "/.")
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
