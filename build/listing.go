package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
		root, ok := moduleRoot(dir)
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

// moduleRoot returns the nearest directory above dir with a go.mod.
func moduleRoot(dir string) (string, bool) {
	for {
		if info, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil && !info.IsDir() {
			return dir, true
		}
		if dir == filepath.Dir(dir) {
			return "", false
		}
		dir = filepath.Dir(dir)
	}
}

// list returns a digest of the scope as it is: of each file below the roots its
// path, size, times, inode, mode and link, and of single files what they hold.
// young reports that something changed so lately that it may change again
// unseen. A link that leaves its root makes it errUnlisted.
func (s scope) list() (digest string, young bool, err error) {
	h := sha256.New()
	latest := time.Now().Add(-granularity)
	for _, root := range s.Roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == ".git" && path != root {
				return filepath.SkipDir
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			identity, changed, err := identify(info)
			if err != nil {
				return err
			}
			link := ""
			switch {
			case d.Type() == fs.ModeSymlink:
				if link, err = inside(root, path); err != nil {
					return err
				}
			case d.IsDir():
				// Its own times change when something is put beside what
				// matters; what is in it is listed.
				identity, changed = info.Mode().String(), time.Time{}
			case !d.Type().IsRegular():
				return errUnlisted
			}
			young = young || changed.After(latest)
			fmt.Fprintf(h, "%q %s %q\n", path, identity, link)
			return nil
		})
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", root, err)
		}
	}
	for _, file := range s.Content {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		fmt.Fprintf(h, "%q %v %q\n", file, err == nil, content)
	}
	return hex.EncodeToString(h.Sum(nil)), young, nil
}

// inside returns where a link leads, if that is below root.
func inside(root, path string) (string, error) {
	link, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(link) {
		return "", errUnlisted
	}
	rel, err := filepath.Rel(root, filepath.Join(filepath.Dir(path), link))
	if err != nil || !filepath.IsLocal(rel) {
		return "", errUnlisted
	}
	return link, nil
}
