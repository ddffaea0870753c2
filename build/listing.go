package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/crosscompile"
)

// errUnlisted says that what feeds a build cannot be listed, so that nothing can
// be concluded from a listing.
var errUnlisted = errors.New("cannot be listed")

// granularity is what a file system's clock may lag behind: a file that changed
// so shortly before it was listed may change again and look the same.
const granularity = 50 * time.Millisecond

// identified is a file as its file system has it.
type identified struct {
	identity string
	changed  time.Time // its inode
	device   uint64
}

// A scope is all that a build of a package in a directory reads, apart from
// modules of the module cache, which never change under their version and sum.
type scope struct {
	Roots   []string `json:"roots"`   // directories, with all below them
	Content []string `json:"content"` // single files, by what they hold; or their absence
}

// scopeOf finds the modules that feed a build in dir: the main one, those of its
// workspace, and those that local replace lines lead to.
func scopeOf(g *crosscompile.Go, dir string) (scope, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return scope{}, err
	}
	var s scope
	work, absent := g.Work(dir)
	s.Content = absent
	if work == "" {
		root, ok := crosscompile.ModuleRoot(dir)
		if !ok {
			return scope{}, errUnlisted
		}
		s.Roots = append(s.Roots, root)
	} else {
		vendor := filepath.Join(filepath.Dir(work), "vendor")
		s.Content = append(s.Content, work, work+".sum", filepath.Join(vendor, "modules.txt"))
		if _, err := os.Lstat(vendor); err == nil {
			s.Roots = append(s.Roots, vendor)
		}
		if err := s.workspace(work); err != nil {
			return scope{}, err
		}
	}
	for _, root := range slices.Clone(s.Roots) {
		if err := s.replaced(filepath.Join(root, "go.mod")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return scope{}, err
		}
	}
	slices.Sort(s.Roots)
	s.Roots = slices.Compact(s.Roots)
	return s, nil
}

// workspace adds the modules of a go.work.
func (s *scope) workspace(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	f, err := modfile.ParseWork(file, content, nil)
	if err != nil {
		return err
	}
	for _, use := range f.Use {
		s.Roots = append(s.Roots, beside(file, use.Path))
	}
	for _, r := range f.Replace {
		s.add(file, r)
	}
	return nil
}

// replaced adds the directories that a go.mod's replace lines lead to.
func (s *scope) replaced(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	f, err := modfile.Parse(file, content, nil)
	if err != nil {
		return err
	}
	for _, r := range f.Replace {
		s.add(file, r)
	}
	return nil
}

func (s *scope) add(file string, r *modfile.Replace) {
	if r.New.Version == "" { // a directory
		s.Roots = append(s.Roots, beside(file, r.New.Path))
	}
}

// beside is where a path in a file leads.
func beside(file, path string) string {
	path = filepath.FromSlash(path)
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(file), path)
}

// A listing is what a scope was at a moment.
type listing struct {
	digest  string
	changed time.Time // of what changed last
	moved   time.Time // of the directory that something came to, or left, last
}

// settledBefore reports whether nothing changed so shortly before start, or after it,
// that it may have changed again unseen.
func (l listing) settledBefore(start time.Time) bool {
	return !l.changed.After(start.Add(-granularity))
}

// A lister makes one listing.
type lister struct {
	hash    hash.Hash
	changed time.Time
	moved   time.Time
	skip    []string        // files and directories that are not looked at
	trusted map[uint64]bool // file systems, by device
}

// list lists the scope as it is: of each file below the roots its path, size, times,
// inode, mode and link, and of single files what they hold. A link that leaves its
// root, or a file system whose word cannot be taken, makes it errUnlisted. The files and
// directories of skip do not count unless they are roots.
func (s scope) list(skip []string) (listing, error) {
	l := lister{hash: sha256.New(), skip: skip, trusted: map[uint64]bool{}}
	for _, root := range s.Roots {
		if err := l.root(root); err != nil {
			return listing{}, fmt.Errorf("%s: %w", root, err)
		}
	}
	for _, file := range s.Content {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return listing{}, err
		}
		fmt.Fprintf(l.hash, "%q %v %q\n", file, err == nil, content)
	}
	return listing{hex.EncodeToString(l.hash.Sum(nil)), l.changed, l.moved}, nil
}

// root lists all below a directory, wherever links on the way to it lead.
func (l *lister) root(root string) error {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	fmt.Fprintf(l.hash, "%q\n", root)
	return filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == real:
		case d.IsDir() && (d.Name() == ".git" || slices.Contains(l.skip, path)):
			return filepath.SkipDir
		case slices.Contains(l.skip, path):
			return nil
		}
		return l.add(real, path, d)
	})
}

// add adds what is at path, below root.
func (l *lister) add(root, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	f, err := identify(info)
	if err != nil {
		return err
	}
	if _, known := l.trusted[f.device]; !known {
		l.trusted[f.device] = trusted(path)
	}
	if !l.trusted[f.device] {
		return errUnlisted
	}
	link := ""
	switch {
	case d.Type() == fs.ModeSymlink:
		if link, err = inside(root, path); err != nil {
			return err
		}
	case d.IsDir():
		// Its own times change when something is put beside what matters; what is in
		// it is listed.
		if f.changed.After(l.moved) && !l.skips(path) {
			l.moved = f.changed
		}
		f.identity, f.changed = info.Mode().String(), time.Time{}
	case !d.Type().IsRegular():
		return errUnlisted
	}
	if f.changed.After(l.changed) {
		l.changed = f.changed
	}
	fmt.Fprintf(l.hash, "%q %s %q\n", path, f.identity, link)
	return nil
}

// skips reports whether something in the directory is not looked at.
func (l *lister) skips(dir string) bool {
	return slices.ContainsFunc(l.skip, func(path string) bool { return filepath.Dir(path) == dir })
}

// inside returns where a link leads, if that is below root, through whatever other
// links, and is listed too. Neither root nor the directory of path is a link.
func inside(root, path string) (string, error) {
	link, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && !slices.Contains(strings.Split(filepath.ToSlash(link), "/"), "..") {
		target, err = filepath.Join(filepath.Dir(path), link), nil // as an editor's lock; it is listed once it is there
	}
	if err != nil || filepath.IsAbs(link) {
		return "", errUnlisted
	}
	rel, err := filepath.Rel(root, target)
	if err != nil || !filepath.IsLocal(rel) || slices.Contains(strings.Split(filepath.ToSlash(rel), "/"), ".git") {
		return "", errUnlisted
	}
	return link, nil
}
