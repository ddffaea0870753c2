// Package intree opens files in a directory tree and nothing outside it.
//
// The tree may be untrusted, such as the checkout of a pull request: its files contain
// paths, and its links may lead anywhere. A [Tree] follows both, and opens what they lead
// to only if that is inside the tree, is not in git's own directory, and is not below
// /proc, /sys or /dev, apart from /dev/shm. Files are opened relative to an [os.Root], so nothing outside the
// tree is opened even if the tree changes at the same time.
//
// [Owned], and the functions that use it, check whether another user may have created a
// file, as is possible in a shared directory.
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

// The errors for paths that a Tree does not open. They are inside a [*fs.PathError].
var (
	// ErrOutside is returned for a path that leads outside the tree.
	ErrOutside = errors.New("is outside the source tree")
	// ErrGit is returned for a path in git's own directory. It may hold credentials, and
	// git never checks out a file of that name.
	ErrGit = errors.New("is inside .git")
	// ErrIrregular is returned if a path leads to neither a regular file nor a directory.
	ErrIrregular = errors.New("is not a regular file")
)

// shm is the directory of POSIX shared memory (shm_overview(7)).
const shm = "/dev/shm"

// maxLinks is the maximum number of links in one path, as on Linux.
const maxLinks = 40

// A Tree is a directory with all below it. It is safe for concurrent use.
type Tree struct {
	root *os.Root
	dir  string // absolute, without links
}

// New opens the tree at dir. It follows links in the path of dir, since the caller has
// chosen dir. The caller closes the tree with [Tree.Close].
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

// Dir returns the directory of the tree, absolute and without links.
func (t *Tree) Dir() string { return t.dir }

// Close closes the tree. Files that were opened from it stay open.
func (t *Tree) Close() error { return t.root.Close() }

// Resolve returns the path that a path leads to, relative to the tree, "." for the tree
// itself. The result has no links, unless the tree changes meanwhile.
//
// The path is absolute, or relative to the working directory. It is cleaned first
// ([filepath.Clean]), so a caller that opens it by other means must clean it too. Its
// last elements need not exist. Errors are a [*fs.PathError] that contains [ErrOutside],
// [ErrGit] or an error of the operating system.
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
		// The path to the tree may contain links, which t.dir does not.
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

// below returns an absolute path relative to the tree, and whether it is inside.
func (t *Tree) below(abs string) (string, bool) {
	rel, err := filepath.Rel(t.dir, abs)
	return rel, err == nil && filepath.IsLocal(rel)
}

// reached finds the prefix of an absolute path that is the directory of the tree, and
// returns the rest. It compares files and not names, so the prefix may have links.
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

// follow walks a path below the tree, element by element, and follows its links. A link
// to an absolute path counts only if it begins with the path of the tree. Elements of a
// path that does not exist are checked by name alone.
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
		if strings.EqualFold(part, ".git") { // git compares it in this way too
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

// elements returns the elements of a path that are not empty.
func elements(path string) []string {
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(path), "/"), func(s string) bool { return s == "" })
}

// kernels reports whether an absolute path is in a file system in which the kernel shows
// the machine and its processes. Links in it can lead to any open file, and environments
// of processes hold credentials. /dev/shm is memory with ordinary files, in which people
// build.
func kernels(path string) bool {
	if path == shm || strings.HasPrefix(path, shm+"/") {
		return false
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// Open opens the regular file or the directory that a path leads to. Anything else, such
// as a pipe or a device, is [ErrIrregular], and Open does not block on it. The type is
// checked before and after the open: opening some devices has an effect, and the file may
// be replaced in between. The caller closes the file.
func (t *Tree) Open(path string) (*os.File, error) {
	rel, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(rel)
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

// bare returns the cause of a PathError. The caller adds the path as the user wrote it.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Root returns the directory of the source tree that dir belongs to: the nearest
// directory at or above dir with .git, else the nearest with go.mod, else dir itself. A
// .git or go.mod that [Owned] rejects does not count, since another user may have created
// it.
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

// Nearest returns the nearest directory at or above dir with .git or go.mod, or dir
// itself. It ignores the same files as [Root].
func Nearest(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	at, _ := nearest(abs, ".git", "go.mod")
	return at, nil
}

// ModuleRoot returns the nearest directory with a go.mod, at or above dir, whoever owns
// the file. ok is false if there is none.
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

// Marked reports whether a directory has .git or go.mod. It ignores the same files as
// [Root].
func Marked(dir string) (bool, error) {
	abs, err := filepath.Abs(dir)
	if err != nil || dir == "" {
		return false, err
	}
	return marked(abs, ".git") || marked(abs, "go.mod"), nil
}

// nearest returns the nearest directory at or above abs that has one of the marks.
// Without one it returns abs and false.
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

// marked reports whether dir has a file or directory of this name that counts.
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

// Below reports whether a path is inside a directory, either as it is written or after
// links are followed. Both must be outside for it to be false, since the tree may contain
// a link on the way. Any doubt, such as an error, counts as inside. The path need not
// exist: its longest existing part decides.
func Below(dir, path string) bool {
	tree, err := New(dir)
	if err != nil {
		return false
	}
	defer tree.Close() //nolint:errcheck // was opened to read
	if _, err = tree.Resolve(path); err == nil || !errors.Is(err, ErrOutside) {
		return true
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return true
	}
	within := func(path string) bool {
		for _, dir := range []string{dir, tree.Dir()} {
			if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
				return true
			}
		}
		return false
	}
	for at := abs; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return within(abs) || within(real)
		}
		if at == filepath.Dir(at) {
			return within(abs)
		}
	}
}
