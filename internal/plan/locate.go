package plan

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/intree"
)

// This file makes one package of the ways to write it: a directory, with another directory to
// start from, and the import path.

// Programs returns the builds for the PACKAGE arguments of a command; see
// [config.Config.Programs].
func Programs(c *config.Config, packages []string) []config.Build {
	return c.Programs(packages, locate)
}

// Local returns the directory of a package relative to dir, if it is an import path of the
// module or the workspace that dir is in; any other package as it is.
func Local(dir, pkg string) string {
	at, ok := ofModule(dir, pkg)
	if !ok {
		return pkg
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return pkg
	}
	rel, err := filepath.Rel(dir, at)
	if err != nil {
		return pkg
	}
	return AsLocal(rel)
}

// AsLocal returns a path as the go command expects a directory.
func AsLocal(dir string) string {
	if dir = filepath.ToSlash(dir); config.IsLocal(filepath.FromSlash(dir)) {
		return dir
	}
	return "./" + dir
}

// locate returns the absolute directory of a package, which is written relative to dir or as
// an import path. It does not follow links. An import path of another module is taken as a
// directory below dir.
func locate(dir, pkg string) string {
	if at, ok := ofModule(dir, pkg); ok {
		return at
	}
	return config.PathOf(dir, pkg)
}

// ofModule returns the directory of an import path of the module or the workspace that dir is
// in.
func ofModule(dir, pkg string) (at string, ok bool) {
	if config.IsLocal(pkg) || strings.Contains(pkg, "@") {
		return "", false
	}
	for _, root := range modules(dir) {
		rest, ok := strings.CutPrefix(pkg+"/", modulePath(root)+"/")
		if !ok {
			continue
		}
		at := filepath.Join(root, filepath.FromSlash(rest))
		// A module below the module has import paths of its own.
		nearest, _ := intree.ModuleRoot(at)
		if info, err := os.Stat(at); err == nil && info.IsDir() && nearest == root {
			return at, true
		}
	}
	return "", false
}

// modules returns the directories of the module that dir is in, and of those of its workspace.
func modules(dir string) (roots []string) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	if root, ok := intree.ModuleRoot(dir); ok {
		roots = append(roots, root)
	}
	file, _ := (&crosscompile.Go{}).Work(dir)
	content, err := os.ReadFile(file)
	if err != nil {
		return roots
	}
	work, err := modfile.ParseWork(file, content, nil)
	if err != nil {
		return roots // the go command reports it
	}
	for _, use := range work.Use {
		root := filepath.FromSlash(use.Path)
		if !filepath.IsAbs(root) {
			root = filepath.Join(filepath.Dir(file), root)
		}
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	return roots
}

// modulePath returns the path of the module in root; "/" if there is none, as no import path
// begins.
func modulePath(root string) string {
	content, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if name := modfile.ModulePath(content); err == nil && name != "" {
		return name
	}
	return "/"
}

// spelled returns the program of a build as a pattern of the same module that matches it would
// name it: a directory relative to that of the pattern, or an import path. ok is false if the
// program belongs to another module.
func spelled(one, pattern config.Build) (name string, ok bool) {
	at, from := locate(one.Dir, one.Main), pattern.Dir
	root, found := intree.ModuleRoot(at)
	if !config.IsLocal(pattern.Main) {
		if !found || !slices.Contains(modules(from), root) {
			return one.Main, one.Dir == pattern.Dir
		}
		rel, err := filepath.Rel(root, at)
		return path.Join(modulePath(root), filepath.ToSlash(rel)), err == nil
	}
	before, _, _ := strings.Cut(pattern.Main, "...")
	if of, _ := intree.ModuleRoot(config.PathOf(from, before)); of != root && !slices.Contains(modules(from), root) {
		return "", false
	}
	from, err := filepath.Abs(from)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(from, at)
	return "./" + filepath.ToSlash(rel), err == nil
}
