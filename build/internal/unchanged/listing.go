package unchanged

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
	"sync"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/intree"
)

// errUnlisted is returned if the inputs of a build cannot be listed reliably. No build
// record is used or stored then.
var errUnlisted = errors.New("cannot be listed")

// granularity is a bound for the step in which a file system advances its clock. A file
// that changed less than this before it was listed may change again with the same times.
const granularity = 50 * time.Millisecond

// A scope lists what a build of a package in a directory reads. It leaves out the module
// cache, in which a module never changes under its version and checksum, and the Go
// installation, which [gocommand.Command.Fingerprint] identifies.
type scope struct {
	Roots   []string `json:"roots"`   // directories, with all below them
	Content []string `json:"content"` // single files, by content; a missing one counts too

	work    string // the go.work file; "": none
	modules []localModule
	vendors []string // vendor directories
}

// A localModule is a module in a directory.
type localModule struct {
	path, dir string
	main      bool // a main module, and not what a replace line names
}

// scopeOf returns the scope of a build in dir: the main module or the modules of the
// workspace, the vendor directory of a workspace, and the directories that replace lines
// name. A go.work that does not exist yet is in Content, since creating it would change
// the build.
func scopeOf(g *crosscompile.Go, dir string) (scope, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return scope{}, err
	}
	var s scope
	work, absent := g.Work(dir)
	s.Content = absent
	if work == "" {
		root, ok := intree.ModuleRoot(dir)
		if !ok {
			return scope{}, errUnlisted
		}
		s.Roots = append(s.Roots, root)
		if err := s.mainModule(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return scope{}, err
		}
		s.vendored(filepath.Join(root, "vendor"))
	} else {
		// A workspace has one vendor directory, beside its go.work.
		s.work = work
		vendor := filepath.Join(filepath.Dir(work), "vendor")
		s.vendored(vendor)
		s.Content = append(s.Content, work, work+".sum", filepath.Join(vendor, "modules.txt"))
		if _, err := os.Lstat(vendor); err == nil {
			s.Roots = append(s.Roots, vendor)
		}
		if err := s.workspace(work); err != nil {
			return scope{}, err
		}
	}
	// Replace lines of required modules do not apply, so one level is enough.
	for _, root := range slices.Clone(s.Roots) {
		if err := s.replaced(filepath.Join(root, "go.mod")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return scope{}, err
		}
	}
	slices.Sort(s.Roots)
	s.Roots = slices.Compact(s.Roots)
	return s, nil
}

// Roots returns the directories whose files a build in dir reads, as far as they are not in
// the module cache.
func Roots(g *crosscompile.Go, dir string) ([]string, error) {
	s, err := scopeOf(g, dir)
	return s.Roots, err
}

// workspace adds the modules and replacements of a go.work file (go.dev/ref/mod,
// Workspaces).
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
		dir := beside(file, use.Path)
		s.Roots = append(s.Roots, dir)
		if err := s.mainModule(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, r := range f.Replace {
		s.add(file, r)
	}
	return nil
}

// mainModule adds the module in a directory.
func (s *scope) mainModule(dir string) error {
	content, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // a module that the user builds
	if err != nil {
		return err
	}
	s.modules = append(s.modules, localModule{modfile.ModulePath(content), dir, true})
	return nil
}

// vendored adds a vendor directory, if it exists.
func (s *scope) vendored(dir string) {
	if _, err := os.Stat(dir); err == nil {
		s.vendors = append(s.vendors, dir)
	}
}

// replaced adds the directories that the replace lines of a go.mod file name.
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

// add adds a replacement if it is a directory. One with a version is in the module cache.
func (s *scope) add(file string, r *modfile.Replace) {
	if r.New.Version == "" {
		dir := beside(file, r.New.Path)
		s.Roots = append(s.Roots, dir)
		s.modules = append(s.modules, localModule{path: r.Old.Path, dir: dir})
	}
}

// beside returns the path that a go.mod or go.work file names, relative to that file.
func beside(file, path string) string {
	path = filepath.FromSlash(path)
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(file), path)
}

// A listing is the state of a scope at one moment. Two listings with equal digests mean
// that no file in the scope changed between them, if the second one is settled.
type listing struct {
	digest  string
	changed time.Time // the latest change of a file
	moved   time.Time // the latest change of a directory that has skipped paths
}

// settledBefore reports whether the last change was at least granularity before start. If
// it was later, a file may have changed again without a visible difference.
func (l listing) settledBefore(start time.Time) bool {
	return !l.changed.After(start.Add(-granularity))
}

// A lister makes one listing.
type lister struct {
	hash    hash.Hash
	changed time.Time
	moved   time.Time
	skip    []string        // files and directories that are left out
	trusted map[uint64]bool // whether a file system has reliable times, by device
}

// list returns the listing of a scope. For each file below the roots it has the path,
// size, times, inode, mode and link target; for the single files it has the content. It
// is errUnlisted if a link leads out of its root, or if a file system has no reliable
// times. Paths in skip are left out unless they are roots.
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
		// A missing file and an empty one must differ.
		fmt.Fprintf(l.hash, "%q %v %q\n", file, err == nil, content)
	}
	return listing{hex.EncodeToString(l.hash.Sum(nil)), l.changed, l.moved}, nil
}

// root lists all below a directory. Links in the path of the directory are followed.
// Git's own directory is left out: every git command changes it, and the build does not
// read it, since -buildvcs is off.
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

// add adds the file at path, which is below root.
func (l *lister) add(root, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	identity, changed, device, err := identify(info)
	if err != nil {
		return err
	}
	// The type of a file system is read once for each device.
	if _, known := l.trusted[device]; !known {
		l.trusted[device] = trusted(path)
	}
	if !l.trusted[device] {
		return errUnlisted
	}
	link := ""
	switch {
	case d.Type() == fs.ModeSymlink:
		if link, err = inside(root, path); err != nil {
			return err
		}
	case d.IsDir():
		// The times of a directory change with any entry of it, also with a skipped one,
		// so they are not part of the identity. The entries themselves are listed. Only
		// moved has the times: it shows that a file was added and removed between two
		// listings.
		if changed.After(l.moved) && !l.skips(path) {
			l.moved = changed
		}
		identity, changed = info.Mode().String(), time.Time{}
	case !d.Type().IsRegular():
		return errUnlisted
	}
	if changed.After(l.changed) {
		l.changed = changed
	}
	fmt.Fprintf(l.hash, "%q %s %q\n", path, identity, link)
	return nil
}

// skips reports whether a path in the directory is left out.
func (l *lister) skips(dir string) bool {
	return slices.ContainsFunc(l.skip, func(path string) bool { return filepath.Dir(path) == dir })
}

// inside returns the target of a link, if the target is below root after all links are
// followed, so that it is listed as well. The caller has resolved root and the directory
// of path.
func inside(root, path string) (string, error) {
	link, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	target, err := filepath.EvalSymlinks(path)
	// A relative link that leads nowhere, such as the lock of an editor, is allowed. Its
	// target is listed once it exists.
	if errors.Is(err, fs.ErrNotExist) && !slices.Contains(strings.Split(filepath.ToSlash(link), "/"), "..") {
		target, err = filepath.Join(filepath.Dir(path), link), nil
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

// A batchedListing shares the listings of one scope among programs of the same modules. A
// caller must see every change that was made before its call. So it cannot share a listing
// that has begun already: it waits for that one to end, and then shares the next listing
// with all callers that came meanwhile.
type batchedListing struct {
	turn chan struct{} // held by the listing that runs

	mu   sync.Mutex
	next func() (listing, error) // runs the listing that has not begun yet, once
}

// newBatch returns a batchedListing of which no listing runs.
func newBatch() *batchedListing { return &batchedListing{turn: make(chan struct{}, 1)} }

// list returns a listing of sc that began after this call.
func (s *Store) list(sc scope) (listing, error) {
	batch, _ := s.listings.LoadOrStore(fmt.Sprintf("%q %q", sc.Roots, sc.Content), newBatch())
	return batch.(*batchedListing).share(func() (listing, error) { return sc.list(s.Skip) })
}

// share runs list, or waits for the run of another caller. The run begins after this call:
// the first caller that gets its turn removes next before it runs list, so later callers
// get another one.
func (w *batchedListing) share(list func() (listing, error)) (listing, error) {
	w.mu.Lock()
	if w.next == nil {
		w.next = sync.OnceValues(func() (listing, error) {
			w.mu.Lock()
			w.next = nil
			w.mu.Unlock()
			return list()
		})
	}
	mine := w.next
	w.mu.Unlock()
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	return mine()
}
