package crosscompile

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/internal/intree"
)

// isPattern reports whether pkg is a pattern for several packages, such as ./cmd/....
func isPattern(pkg string) bool { return strings.Contains(pkg, "...") }

// Mains returns the main packages that match a pattern such as ./cmd/..., sorted. Each
// can be passed to [Go.Find]: it is a directory if the pattern is one, else an import
// path. A package counts if it is a main package for any of q.Aims.
//
// No match is a [*PackageError] unless there are q.Known, and so is a matching package that cannot be read:
// leaving it out would build fewer programs than the user expects.
func (g *Go) Mains(ctx context.Context, q Query) ([]string, error) {
	if strings.Contains(q.Pattern, "@") {
		return nil, &PackageError{Pattern: q.Pattern, Reason: "is a pattern, but a version requires a single package", Way: "write module/path@version for each program"}
	}
	dir, err := filepath.Abs(q.Dir)
	if err != nil {
		return nil, err
	}
	// Without cgo, the go command matches no program that imports "C".
	cgo := make(chan []string, 1)
	go func() { cgo <- g.cgoMains(ctx, q, dir) }()
	withCgo := sync.OnceValue(func() []string { return <-cgo })
	defer withCgo()
	var mains []string
	var broken []error
	// Build constraints can make a package a program for one platform only, so all aims
	// are asked and their results are joined.
	for _, aim := range q.aims() {
		all, err := g.listModules(ctx, aim, dir, q.Pattern)
		// The go command has run and rejected the pattern. Other failures, such as a
		// missing go command, are returned as they are.
		var ce *CommandError
		if errors.As(err, &ce) && ce.answered() {
			return nil, &PackageError{Pattern: q.Pattern, Reason: withoutDownloads(ce.Error()), Way: cmp.Or(wayOf(ce.Output), "run mabuild in a module")}
		}
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			// A package without files for this aim is not broken.
			if p.Error != nil && len(p.IgnoredGoFiles) == 0 && p.ImportPath != q.Pattern {
				broken = append(broken, &PackageError{Pattern: p.ImportPath, Reason: p.broken(), Way: cmp.Or(wayOf(p.Error.Err), "fix it, or name the programs one by one")})
				continue
			}
			if p.Name != "main" {
				continue
			}
			if name, err := q.nameOf(p, dir); err != nil {
				return nil, err
			} else if !q.knows(name) {
				mains = append(mains, name)
			}
		}
		if len(broken) > 0 {
			return nil, errors.Join(broken...)
		}
	}
	g.tellModules(ctx, dir, q.Pattern)
	left := withCgo()
	switch {
	case len(mains) == 0 && len(left) == 0 && len(q.Known) > 0:
	case len(mains) == 0 && len(left) > 0 && len(q.Known) == 0:
		return nil, &PackageError{Pattern: q.Pattern, Reason: "there is no main package without cgo, only " + strings.Join(left, ", "), Way: "enable cgo"}
	case len(mains) == 0 && len(left) == 0:
		return nil, &PackageError{Pattern: q.Pattern, Reason: "there is no main package", Way: g.nearby(ctx, q.Dir, q.Dir)}
	case len(left) > 0 && g.Log != nil:
		g.Log.WarnContext(ctx, fmt.Sprintf(`%s: left out %s, which imports "C" and requires cgo`, q.Pattern, strings.Join(left, ", ")))
	}
	slices.Sort(mains)
	return slices.Compact(mains), nil
}

// nameOf returns the name of a program that matches: a directory if the pattern is one, else
// the import path.
func (q Query) nameOf(p listed, dir string) (string, error) {
	if !isLocal(q.Pattern) {
		return p.ImportPath, nil
	}
	rel, err := filepath.Rel(dir, p.Dir)
	return "./" + filepath.ToSlash(rel), err
}

// knows reports whether name is among q.Known.
func (q Query) knows(name string) bool {
	return slices.ContainsFunc(q.Known, func(known string) bool { return path.Clean(known) == path.Clean(name) })
}

// cgoMains returns the programs that match only with cgo and that are not known: all their
// files for the first aim import "C". It returns nil if cgo is on, and if the go command fails, which Mains reports.
func (g *Go) cgoMains(ctx context.Context, q Query, dir string) (left []string) {
	aim := q.aims()[0]
	if slices.ContainsFunc(q.aims(), func(a Aim) bool { return a.Cgo }) {
		return nil
	}
	aim.Cgo = true
	all, err := g.listModules(ctx, aim, dir, q.Pattern)
	if err != nil {
		return nil
	}
	for _, p := range all {
		if name, err := q.nameOf(p, dir); err == nil && p.Name == "main" && len(p.GoFiles) == 0 && len(p.CgoFiles) > 0 && !q.knows(name) {
			left = append(left, p.ImportPath)
		}
	}
	return left
}

// listModules is listAll for patterns of directories. The go command lists one module: not
// that of a directory below another module, and not those of a workspace that are below it.
// So it runs in each module where the pattern begins or that is below, if the workspace has
// it.
func (g *Go) listModules(ctx context.Context, aim Aim, dir, pattern string) ([]listed, error) {
	at, rest, _ := strings.Cut(filepath.ToSlash(pattern), "...")
	// A pattern such as ./cmd... also matches ./cmdline, so only one that ends a
	// directory with "..." is split at the modules.
	if !isLocal(pattern) || !strings.HasSuffix(at, "/") {
		return g.listAll(ctx, aim, dir, pattern)
	}
	top, err := filepath.Abs(filepath.Join(dir, at))
	if err != nil {
		return nil, err
	}
	own, inModule := intree.ModuleRoot(top)
	var modules []string
	for _, module := range g.workspace(top) {
		if module != own {
			modules = append(modules, module)
		}
	}
	var all []listed
	if of, _ := intree.ModuleRoot(dir); inModule && of != own {
		modules = append(modules, top)
	} else if inModule || len(modules) == 0 {
		if all, err = g.listAll(ctx, aim, dir, pattern); err != nil {
			return nil, err
		}
	}
	for _, module := range modules {
		list, err := g.listAll(ctx, aim, module, "./..."+rest)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// workspace returns the modules below dir that belong to the workspace of dir. A go.work
// that cannot be read has none; the go command reports the error.
func (g *Go) workspace(dir string) []string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	file, _ := g.Work(dir)
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	work, err := modfile.ParseWork(file, content, nil)
	if err != nil {
		return nil
	}
	var list []string
	for _, use := range work.Use {
		module := filepath.FromSlash(use.Path)
		if !filepath.IsAbs(module) {
			module = filepath.Join(filepath.Dir(file), module)
		}
		if rel, err := filepath.Rel(dir, module); err == nil && filepath.IsLocal(rel) {
			list = append(list, module)
		}
	}
	return list
}

// tellModules logs the modules below a pattern of directories that the pattern does not
// match. A module ends where another module begins, which users may not expect.
// Directories that cannot be read are skipped.
func (g *Go) tellModules(ctx context.Context, dir, pattern string) {
	if g.Log == nil || !isLocal(pattern) {
		return
	}
	at, _, _ := strings.Cut(filepath.ToSlash(pattern), "...")
	top := filepath.Join(dir, at)
	own, _ := intree.ModuleRoot(top)
	reached := append(g.workspace(top), own)
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		// The go command also leaves out these directories, except node_modules, which is
		// large.
		case d.IsDir() && path != top && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || slices.Contains([]string{"testdata", "vendor", "node_modules"}, d.Name())):
			return filepath.SkipDir
		case d.IsDir() || d.Name() != "go.mod" || slices.Contains(reached, filepath.Dir(path)):
			return nil
		}
		rel, err := filepath.Rel(dir, filepath.Dir(path))
		if err == nil {
			g.Log.WarnContext(ctx, fmt.Sprintf("%s does not include ./%s, which is a separate module: add ./%s/..., or list it in go.work", pattern, filepath.ToSlash(rel), filepath.ToSlash(rel)))
		}
		return nil
	})
}

// aims returns q's aims. Without any it is the zero Aim, which stands for the host.
func (q Query) aims() []Aim {
	if len(q.Aims) == 0 {
		return []Aim{{}}
	}
	return q.Aims
}

// listAll runs `go list` in dir and returns the packages that match pattern. Without a
// wildcard in the pattern there is at least one. Errors in a package are in its Error,
// not in err, since -e is set. -find leaves out the imports, which need not be available.
func (g *Go) listAll(ctx context.Context, aim Aim, dir, pattern string) ([]listed, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	args := []string{"list", "-e", "-find", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,IgnoredGoFiles,Module,Error"}
	if len(aim.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(aim.Tags, ","))
	}
	// The zero Aim has no platform: the go command lists for the host.
	if aim.Platform.OS != "" {
		target, err := Env(aim.Platform)
		if err != nil {
			return nil, err
		}
		tc = tc.with(target...)
	}
	if aim.Cgo {
		tc = tc.with("CGO_ENABLED=1")
	}
	out, err := tc.run(ctx, dir, append(args, "--", pattern)...)
	if err != nil {
		return nil, err
	}
	var all []listed
	// The output is a sequence of JSON values without separators.
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := in.Decode(&p); {
		case errors.Is(err, io.EOF) && (len(all) > 0 || isPattern(pattern)):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
}
