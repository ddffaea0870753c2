// Package intree opens what lies in a directory tree, and nothing outside it.
//
// The tree is one that a stranger may have written: a checkout of a pull request. Its
// files name paths, and links in it lead anywhere. A [Tree] follows both and returns
// what they lead to only if that lies in the tree, is not git's own directory, and is
// not below /proc, /sys or /dev. Whatever changes meanwhile, nothing outside the tree
// is opened ([os.Root]).
package intree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mabuild/mabuild/internal/hint"
)

var (
	// ErrOutside is returned for a path that leads out of the tree.
	ErrOutside = errors.New("is outside the source tree")
	// ErrGit is returned for a path in git's own directory, which may hold credentials
	// and which git never takes from a repository.
	ErrGit = errors.New("is inside .git")
	// ErrIrregular is returned for what is opened and is neither a regular file nor a
	// directory.
	ErrIrregular = errors.New("is not a regular file")
)

// maxLinks is how many links a path may lead through, as on Linux.
const maxLinks = 40

// A Tree is a directory with all below it. It is safe for concurrent use.
type Tree struct {
	root *os.Root
	dir  string // without links
}

// New returns the tree at dir. Links on the way to dir are followed: dir is what the
// caller chose. [Tree.Close] closes it.
func New(dir string) (*Tree, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	if kernels(dir) {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: ErrOutside}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root: root, dir: dir}, nil
}

// Dir returns the tree's directory, absolute and without links.
func (t *Tree) Dir() string { return t.dir }

// Close closes the tree. What was opened stays open.
func (t *Tree) Close() error { return t.root.Close() }

// Resolve returns where a path leads, relative to the tree, "." for the tree itself.
// The path is absolute, or relative to the working directory, and is cleaned first
// ([filepath.Clean]): a caller that opens it by itself cleans it, too. Its last elements
// need not exist. The result has no links, unless the tree changes meanwhile. Errors are
// a [*fs.PathError] with [ErrOutside] or [ErrGit] in it, or what the system said.
func (t *Tree) Resolve(path string) (string, error) {
	fail := func(err error) (string, error) {
		return "", &fs.PathError{Op: "open", Path: path, Err: bare(err)}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fail(err)
	}
	rest, ok := t.below(abs)
	if !ok {
		// The way to the tree may have links of its own, which the tree's path has not.
		if rest, ok = t.reached(abs); !ok {
			return fail(ErrOutside)
		}
	}
	rel, err := t.follow(rest)
	if err != nil {
		return fail(err)
	}
	return rel, nil
}

// below returns an absolute path relative to the tree.
func (t *Tree) below(abs string) (string, bool) {
	rel, err := filepath.Rel(t.dir, abs)
	return rel, err == nil && filepath.IsLocal(rel)
}

// reached finds the part of an absolute path that leads to the tree's directory, and
// returns the rest.
func (t *Tree) reached(abs string) (string, bool) {
	here, err := t.root.Stat(".")
	if err != nil {
		return "", false
	}
	for at := abs; ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && os.SameFile(info, here) {
			rel, err := filepath.Rel(at, abs)
			return rel, err == nil
		}
		if at == filepath.Dir(at) {
			return "", false
		}
	}
}

// follow walks a path below the tree, element by element, through its links.
func (t *Tree) follow(path string) (string, error) {
	rest := elements(path)
	at, links := ".", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case ".":
			continue
		case "..":
			if at == "." {
				return "", ErrOutside
			}
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, part)
		if strings.EqualFold(part, ".git") { // as git compares it
			return "", ErrGit
		}
		if kernels(filepath.Join(t.dir, next)) {
			return "", ErrOutside
		}
		info, err := t.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			at = next
			continue
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", syscall.ELOOP
		}
		target, err := t.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			rel, ok := t.below(filepath.Clean(target))
			if !ok {
				return "", ErrOutside
			}
			at, target = ".", rel
		}
		rest = append(elements(target), rest...)
	}
	return at, nil
}

func elements(path string) []string {
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(path), "/"), func(s string) bool { return s == "" })
}

// kernels reports whether an absolute path is of a file system that shows the machine
// and its processes.
func kernels(path string) bool {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// Open opens the regular file or the directory that a path leads to. A pipe or a device
// is [ErrIrregular], and is not waited for.
func (t *Tree) Open(path string) (*os.File, error) {
	rel, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(rel) // before the open: a pipe would block it
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = ErrIrregular
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: bare(err)}
	}
	f, err := t.root.OpenFile(rel, os.O_RDONLY|nonblocking, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: bare(err)}
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = ErrIrregular
	}
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: path, Err: bare(err)}, f.Close())
	}
	return f, nil
}

// bare leaves out operation and path, which the caller says.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Root returns where the tree that a file in dir belongs to begins: the nearest
// directory at or above dir that has .git or, if there is none, the nearest that has
// go.mod, else dir itself. A mark that [Owned] refuses does not count: it is another
// user's.
func Root(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for _, mark := range []string{".git", "go.mod"} {
		if at, ok := nearest(abs, mark); ok {
			return at, nil
		}
	}
	return abs, nil
}

// Nearest returns the nearest directory at or above dir that has .git or go.mod, or
// dir itself. Marks count as for [Root].
func Nearest(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	at, _ := nearest(abs, ".git", "go.mod")
	return at, nil
}

// Marked reports whether a directory has .git or go.mod, as marks count for [Root].
func Marked(dir string) (bool, error) {
	abs, err := filepath.Abs(dir)
	if err != nil || dir == "" {
		return false, err
	}
	return marked(abs, ".git") || marked(abs, "go.mod"), nil
}

// nearest returns the nearest directory at or above abs that has one of the marks, or
// abs where there is none.
func nearest(abs string, marks ...string) (dir string, ok bool) {
	for up := abs; ; up = filepath.Dir(up) {
		if slices.ContainsFunc(marks, func(mark string) bool { return marked(up, mark) }) {
			return up, true
		}
		if up == filepath.Dir(up) {
			return abs, false
		}
	}
}

func marked(dir, mark string) bool {
	path := filepath.Join(dir, mark)
	_, err := os.Lstat(path)
	return err == nil && Owned(path) == nil
}

// Owned refuses what another user may have put at path: in a directory that others can
// write to, path must belong to this process's user or to root, or to the directory's
// owner if only its group can write to it. Links are not followed. What is not there is
// not refused.
func Owned(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Lstat(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	above, err := os.Stat(filepath.Dir(abs))
	if err != nil {
		return err
	}
	if !foreign(info, above) {
		return nil
	}
	return hint.New(hint.Build, "work in your own directory, change the owner of the file, or name a configuration file with --config FILE",
		"%s belongs to another user, in a directory that others can write to", path)
}
