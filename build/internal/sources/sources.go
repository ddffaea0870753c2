// Package sources checks that no source file of an untrusted Go module leads outside of the
// directories that it may be read from.
//
// The go command and its assembler quote in their errors what they cannot parse. A source
// file that is a link, or an #include, could make them quote any file of this machine. So
// untrusted sources are checked before the go command runs. Directories that go.mod and
// go.work name (replace, use) are not restricted.
package sources

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/intree"
)

// ofGo are the names of the files that Go reads in a module, besides those of packages.
var ofGo = []string{"go.mod", "go.sum", "go.work", "go.work.sum", "modules.txt", "default.pgo"}

// maxAssembly is the size limit in bytes for an assembly file. A larger one is an error,
// since it would have to be searched for includes.
const maxAssembly = 16 << 20

// Check checks the modules that a build of pkg in dir reads, as far as they are inside one
// of the directories within: no file in them may lead outside. Without such directories
// all sources are trusted. An error is a [*specerr.Error].
//
// This is a check before use. A checkout that changes while it is built is not covered.
func Check(g *crosscompile.Go, within []string, dir, pkg string) error {
	// The checksum of module/path@version is verified by the go command.
	if len(within) == 0 || strings.Contains(pkg, "@") {
		return nil
	}
	s := check{seen: map[string]bool{}}
	defer func() {
		for _, t := range s.trees {
			_ = t.Close() // only looked at
		}
	}()
	for _, dir := range within {
		t, err := intree.New(dir)
		if err != nil {
			return err
		}
		s.trees = append(s.trees, t)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	dirs := []string{dir}
	// A directory below dir may have a module and a workspace other than those of dir.
	own := pkg
	if !filepath.IsAbs(own) {
		own = filepath.Join(dir, own)
	}
	if info, err := os.Stat(own); err == nil && info.IsDir() {
		dirs = append(dirs, own)
	}
	if err := s.asked(dir, pkg); err != nil {
		return err
	}
	roots := map[string]bool{}
	for _, dir := range dirs {
		work, _ := g.Work(dir)
		if root, ok := intree.ModuleRoot(dir); ok {
			dir = root
		}
		for _, file := range []string{filepath.Join(dir, "go.mod"), work} {
			if err := s.within(file); file != "" && s.holds(filepath.Dir(file)) && err != nil {
				return err
			}
		}
		roots[dir] = true
		// If the scope cannot be read, the go command reports why.
		if below, err := unchanged.Roots(g, dir); err == nil {
			for _, root := range below {
				roots[root] = true
			}
		}
	}
	s.roots = slices.Sorted(maps.Keys(roots))
	for _, root := range s.roots {
		if !s.holds(root) {
			continue
		}
		if err := s.walk(root); err != nil {
			return err
		}
	}
	return nil
}

// asked returns an error if the path of the package, as it was written, is inside a tree
// but leads outside. A path that is outside as written is allowed, since the user chose
// it.
func (s *check) asked(dir, pkg string) error {
	at, _, _ := strings.Cut(pkg, "...")
	if root, ok := intree.ModuleRoot(dir); ok && s.holds(root) {
		if content, err := os.ReadFile(filepath.Join(root, "go.mod")); err == nil {
			if rest, ok := strings.CutPrefix(at, modfile.ModulePath(content)+"/"); ok { // an import path
				dir, at = root, rest
			}
		}
	}
	if !filepath.IsAbs(at) {
		at = filepath.Join(dir, at)
	}
	for _, t := range s.trees {
		if rel, err := filepath.Rel(t.Dir(), at); err == nil && filepath.IsLocal(rel) {
			return s.within(at)
		}
	}
	return nil
}

// A check is one check of untrusted sources.
type check struct {
	trees []*intree.Tree // open while the check runs
	roots []string       // of the modules, sorted
	// seen has the directories that were walked, and the included files by package
	// directory and path. It ends loops of links and of includes.
	seen map[string]bool
}

// holds reports whether a directory is inside one of the trees.
func (s *check) holds(dir string) bool {
	_, err := s.resolve(dir)
	return err == nil
}

// resolve returns the absolute path, without links, that a path leads to. The result is
// inside one of the trees; otherwise it returns the error of the first tree.
func (s *check) resolve(path string) (string, error) {
	first := intree.ErrOutside
	for i, t := range s.trees {
		rel, err := t.Resolve(path)
		if err == nil {
			return filepath.Join(t.Dir(), rel), nil
		}
		if i == 0 {
			first = err
		}
	}
	return "", first
}

// within returns an error if a file leads outside the trees. Other failures, such as a
// missing file, are left to the go command.
func (s *check) within(file string) error {
	_, err := s.resolve(file)
	if errors.Is(err, intree.ErrOutside) || errors.Is(err, intree.ErrGit) {
		return &specerr.Error{Field: "sources", Reason: file + " is outside the source tree", Err: err}
	}
	return nil
}

// walk checks all files of a module. It follows links to directories, since an import
// path may lead through them. Unreadable files are left to the go command.
func (s *check) walk(root string) error {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil //nolint:nilerr // which the go command says
	}
	if s.seen[real] {
		return nil
	}
	s.seen[real] = true
	return filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		switch ext := filepath.Ext(path); {
		case err != nil:
			return nil // unreadable: Go may not need it
		case d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case d.IsDir() && path != real && s.otherModule(real, path):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		case d.Type() == fs.ModeSymlink:
			return s.link(real, path, ext)
		case ext == ".s":
			return s.includes(filepath.Dir(path), path)
		}
		return nil
	})
}

// otherModule reports whether another module begins at a directory below root. The go command
// reads nothing of it for the module at root, except below vendor, where go.mod does not
// count. If the build reads it as a module of its own, it is among the roots.
func (s *check) otherModule(root, dir string) bool {
	rel, err := filepath.Rel(root, dir)
	if err != nil || slices.Contains(strings.Split(filepath.ToSlash(rel), "/"), "vendor") {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil && info.Mode().IsRegular()
}

// link checks a link in the module at root. A link to a file matters if Go reads files of
// that name. A link to a directory outside the trees matters only if a package below it
// is imported: build systems place links to large directories that are not Go's in a
// module. The vendor directory is always read.
func (s *check) link(root, path, ext string) error {
	target, err := s.resolve(path)
	info, serr := os.Stat(path)
	switch isDir := serr == nil && info.IsDir(); {
	case isDir && err == nil:
		return s.walk(target)
	case isDir && filepath.Base(path) != "vendor":
		return s.imported(root, path)
	case !isDir && !unchanged.Compiled(ext) && !slices.Contains(ofGo, filepath.Base(path)):
		return nil
	case ext == ".s" && err == nil:
		return s.includes(filepath.Dir(path), path)
	}
	return s.within(path)
}

// imported returns an error for a directory of the module at root that leads outside the
// trees, if a file of any of the modules imports a package in it.
func (s *check) imported(root, dir string) error {
	content, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil //nolint:nilerr // no module, no import path
	}
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return err
	}
	prefix := path.Join(modfile.ModulePath(content), filepath.ToSlash(rel))
	visit := func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(file) != ".go" {
			return nil // links are checked by link
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return nil //nolint:nilerr // which the go command says
		}
		for _, spec := range parsed.Imports {
			if name, err := strconv.Unquote(spec.Path.Value); err == nil && (name == prefix || strings.HasPrefix(name, prefix+"/")) {
				return s.within(dir)
			}
		}
		return nil
	}
	for _, root := range s.roots {
		if err := filepath.WalkDir(root, visit); err != nil {
			return err
		}
	}
	return nil
}

// includes checks the files that an assembly file includes, and what these include. Names
// are relative to the directory of the package. A name that is not found there may be in
// Go's include directories, so it is an error only if it is absolute or has "..".
func (s *check) includes(dir, file string) error {
	if s.seen[dir+"\x00"+file] {
		return nil
	}
	s.seen[dir+"\x00"+file] = true
	info, err := os.Stat(file) //nolint:gosec // it lies in the tree
	if err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // Go ignores it, or says what is wrong
	}
	if info.Size() > maxAssembly {
		return &specerr.Error{Field: "sources", Reason: fmt.Sprintf("%s is larger than %d MiB, the limit for assembly files", file, maxAssembly>>20)}
	}
	content, err := os.ReadFile(file) //nolint:gosec // as above
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	for _, name := range unchanged.Includes(content) {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, name)
		}
		real, err := s.resolve(path)
		_, serr := os.Stat(real) //nolint:gosec // as above
		if err != nil || serr != nil && (filepath.IsAbs(name) || slices.Contains(strings.Split(filepath.ToSlash(name), "/"), "..")) {
			return &specerr.Error{Field: "sources", Reason: fmt.Sprintf("%s includes %s, which is outside the source tree", file, name), Way: "copy the included file into the package"}
		}
		if serr == nil {
			if err := s.includes(dir, real); err != nil {
				return err
			}
		}
	}
	return nil
}
