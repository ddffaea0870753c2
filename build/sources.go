package build

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
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/intree"
)

// The go command and its assembler quote in their errors what they cannot read. A source
// file that is a link, or an #include, would make them quote any file of the machine, so
// both are looked at before the go command is started. What go.mod and go.work name
// (replace, use) is Go's to follow.

// ofGo are the names, and endings, of the files that Go reads of a module.
var (
	ofGo  = []string{"go.mod", "go.sum", "go.work", "go.work.sum", "modules.txt", "default.pgo"}
	ofGos = []string{".go", ".s", ".S", ".sx", ".h", ".hh", ".hpp", ".hxx", ".c", ".cc", ".cpp", ".cxx", ".m", ".f", ".F", ".for", ".f90", ".syso", ".swig", ".swigcxx"}
)

// maxAssembly is how much of an assembler's file is looked at; a larger one is refused.
const maxAssembly = 16 << 20

// sources looks at the modules that feed a build of pkg in dir, as far as they lie in a tree of
// Builder.Within: nothing in them leads out of it. An error is a [*SpecError].
func (b *Builder) sources(dir, pkg string) error {
	if len(b.Within) == 0 || strings.Contains(pkg, "@") { // a module of the cache, whose sum was checked
		return nil
	}
	s := sources{seen: map[string]bool{}}
	defer func() {
		for _, t := range s.trees {
			_ = t.Close() // only looked at
		}
	}()
	for _, dir := range b.Within {
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
	own := pkg
	if !filepath.IsAbs(own) { // of a module of its own, perhaps
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
		work, _ := b.goc.Work(dir)
		if root, ok := crosscompile.ModuleRoot(dir); ok {
			dir = root
		}
		for _, file := range []string{filepath.Join(dir, "go.mod"), work} {
			if err := s.within(file); file != "" && s.holds(filepath.Dir(file)) && err != nil {
				return err
			}
		}
		roots[dir] = true
		if sc, err := scopeOf(b.goc, dir); err == nil { // else the go command says why not
			for _, root := range sc.Roots {
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

// asked refuses a package whose directory, as it is written, lies in a tree and leads out
// of it. One that is written as outside is a person's word.
func (s *sources) asked(dir, pkg string) error {
	at, _, _ := strings.Cut(pkg, "...")
	if root, ok := crosscompile.ModuleRoot(dir); ok && s.holds(root) {
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

// sources are looked at in trees.
type sources struct {
	trees []*intree.Tree
	roots []string        // of the modules
	seen  map[string]bool // directories, and included files by package directory and path
}

// holds reports whether a directory lies in one of the trees.
func (s *sources) holds(dir string) bool {
	_, err := s.resolve(dir)
	return err == nil
}

// resolve returns where a path leads, absolute and without links, if that is in a tree.
func (s *sources) resolve(path string) (string, error) {
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

// within refuses a file that leads out of the trees.
func (s *sources) within(file string) error {
	_, err := s.resolve(file)
	if errors.Is(err, intree.ErrOutside) || errors.Is(err, intree.ErrGit) {
		return &SpecError{Field: "sources", Reason: file + " is outside the source tree", Err: err}
	}
	return nil // what else is wrong is the go command's to say
}

// walk looks at all files of a module, through links of directories, too: Go builds
// packages there.
func (s *sources) walk(root string) error {
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
			return nil // Go may not need it
		case d.IsDir() && d.Name() == ".git":
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

// link looks at a link in the module at root.
func (s *sources) link(root, path, ext string) error {
	target, err := s.resolve(path)
	info, serr := os.Stat(path)
	switch isDir := serr == nil && info.IsDir(); {
	case isDir && err == nil:
		return s.walk(target)
	case isDir && filepath.Base(path) != "vendor": // as build systems have them, full of what is none of Go's
		return s.imported(root, path)
	case !isDir && !slices.Contains(ofGos, ext) && !slices.Contains(ofGo, filepath.Base(path)):
		return nil
	case ext == ".s" && err == nil:
		return s.includes(filepath.Dir(path), path)
	}
	return s.within(path)
}

// imported refuses a directory of the module at root that leads out of the trees if a file
// of any of the modules imports a package there.
func (s *sources) imported(root, dir string) error {
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
			return nil // a link was looked at
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

// included is an #include as the assembler reads it, with blanks, comments and continued
// lines between its parts; one in a comment counts, too.
var included = regexp.MustCompile(`#` + blanks + `include` + blanks + `("(?:[^"\\\n]|\\.)*")`)

const blanks = `(?:\s|\\\r?\n|/\*(?s:.*?)\*/)*`

// includes looks at what an assembler's file includes, by names relative to its package's
// directory.
func (s *sources) includes(dir, file string) error {
	if s.seen[dir+"\x00"+file] {
		return nil
	}
	s.seen[dir+"\x00"+file] = true
	info, err := os.Stat(file) //nolint:gosec // it lies in the tree
	if err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // Go ignores it, or says what is wrong
	}
	if info.Size() > maxAssembly {
		return &SpecError{Field: "sources", Reason: fmt.Sprintf("%s is larger than %d MiB, the limit for assembly files", file, maxAssembly>>20)}
	}
	content, err := os.ReadFile(file) //nolint:gosec // as above
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	for _, m := range included.FindAllSubmatch(content, -1) {
		name, err := strconv.Unquote(string(m[1]))
		if err != nil {
			continue // the assembler refuses it, too
		}
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, name)
		}
		real, err := s.resolve(path)
		_, serr := os.Stat(real) //nolint:gosec // as above
		// What is not beside the file is looked for in Go's own directories.
		if err != nil || serr != nil && (filepath.IsAbs(name) || slices.Contains(strings.Split(filepath.ToSlash(name), "/"), "..")) {
			return &SpecError{Field: "sources", Reason: fmt.Sprintf("%s includes %s, which is outside the source tree", file, name), Way: "copy the included file into the package"}
		}
		if serr == nil {
			if err := s.includes(dir, real); err != nil {
				return err
			}
		}
	}
	return nil
}
