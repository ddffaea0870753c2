// Package filelist lists the files of a source tree that a build copies into an image.
//
// A configuration file may come from an untrusted checkout. So every source path must be
// inside the tree after its links are followed, and nothing is read from .git, which may
// hold credentials. Links inside a copied directory stay links in the image.
package filelist

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/specerr"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// A File is a file, or a directory with its content, that is copied into the image.
type File struct {
	From string // relative to the source tree, and inside it
	To   string // absolute; with a slash at its end it is the directory for the file
	Mode int64  // of files; 0: 0755 if the owner may execute the file, else 0644
	UID  int    // of files, and of copied directories
	GID  int
	// Tree is the source tree of From, in place of that of the build.
	Tree string
}

// Check checks the fields of f. Whether the file exists is checked by [Entries].
func Check(f File) error {
	switch {
	case f.From == "":
		return &specerr.Error{Field: "files", Reason: "an entry has no from"}
	case !path.IsAbs(f.To):
		return &specerr.Error{Field: "files", Reason: fmt.Sprintf("to %q is not absolute", f.To), Way: "write /" + f.To}
	case slices.Contains(strings.Split(f.To, "/"), ".."):
		return &specerr.Error{Field: "files", Reason: fmt.Sprintf("to %q contains ..", f.To)}
	case f.UID < 0 || f.GID < 0:
		return &specerr.Error{Field: "files", Reason: fmt.Sprintf("owner %d:%d is invalid", f.UID, f.GID)}
	case f.Mode&^0o7777 != 0:
		return &specerr.Error{Field: "files", Reason: fmt.Sprintf("mode %o is invalid", f.Mode)}
	}
	return nil
}

// Entries lists the entries of all files in the source tree dir, and joins the errors of
// all. "" is the working directory. warn is called for files that are probably not what
// the user meant.
func Entries(dir string, list []File, warn func(string)) (entries []layerfile.Entry, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	var errs []error
	for _, f := range list {
		tree := cmp.Or(f.Tree, dir, ".")
		found, err := f.open(tree)
		if err != nil {
			errs = append(errs, fileError(f, tree, err))
		}
		for _, e := range found {
			if isPointer(e) {
				warn(fmt.Sprintf("files: /%s is a Git LFS pointer; fetch the file with git lfs pull", e.Name))
			}
		}
		entries = append(entries, found...)
	}
	return entries, errors.Join(errs...)
}

// open lists the files of one entry in the source tree dir.
func (f File) open(dir string) (entries []layerfile.Entry, err error) {
	tree, err := intree.New(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	// The tree resolves paths; the root reads files and refuses any link that leads
	// outside.
	root, err := os.OpenRoot(tree.Dir())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return f.entries(tree, root)
}

// fileError returns the error for f in the source tree, with a hint if the cause is
// known.
func fileError(f File, tree string, err error) error {
	var se *specerr.Error
	if errors.As(err, &se) {
		return err
	}
	e := &specerr.Error{Field: "files", Reason: fmt.Sprintf("%s: %v", f.From, err)}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Reason = f.From + " does not exist"
		e.Way = "check the path; it is looked for in " + tree
	case errors.Is(err, intree.ErrOutside):
		e.Reason = f.From + " is outside the source tree"
		e.Err = intree.ErrOutside
	case errors.Is(err, intree.ErrGit):
		e.Reason = f.From + " is inside .git"
		e.Way = "use another file; .git can contain credentials and is never copied"
	}
	return e
}

// entries lists the files of one entry. A directory becomes f.To, with all below it
// except .git. Each file is hashed here and read again when the layer is written; if its
// content has changed by then, the build fails.
func (f File) entries(tree *intree.Tree, root *os.Root) ([]layerfile.Entry, error) {
	dir, from := tree.Dir(), filepath.FromSlash(f.From)
	if filepath.IsAbs(from) {
		return nil, intree.ErrOutside
	}
	real, err := tree.Resolve(filepath.Join(dir, from))
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(real)
	if err != nil {
		return nil, err
	}
	to := rootfs.Clean(f.To)
	// A file keeps its name if f.To ends with a slash.
	if !info.IsDir() {
		if strings.HasSuffix(f.To, "/") {
			to = path.Join(to, filepath.Base(from))
		}
		e, err := f.regular(root, dir, real, to, info)
		return []layerfile.Entry{e}, err
	}
	var entries []layerfile.Entry
	err = fs.WalkDir(root.FS(), filepath.ToSlash(real), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(real, filepath.FromSlash(name))
		if err != nil {
			return err
		}
		at := path.Join(to, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		// In a worktree or a submodule .git is a file.
		case strings.EqualFold(d.Name(), ".git"):
			if d.IsDir() {
				return fs.SkipDir
			}
		case at == "": // the root of the image has no entry
		case d.IsDir():
			entries = append(entries, f.owned(layerfile.Directory(at, 0o755)))
		case d.Type() == fs.ModeSymlink:
			e, err := symlink(root, name, rel, at)
			if err != nil {
				return err
			}
			entries = append(entries, f.owned(e))
		default:
			e, err := f.regular(root, dir, filepath.FromSlash(name), at, info)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// regular returns the entry of a regular file and hashes the file. Without f.Mode the
// mode is 0644, or 0755 if the owner may execute the file, so that the umask of a
// checkout does not change the layer.
func (f File) regular(root *os.Root, dir, from, to string, info fs.FileInfo) (e layerfile.Entry, err error) {
	if !info.Mode().IsRegular() {
		return e, &specerr.Error{Field: "files", Reason: from + " is " + kindOf(info.Mode()) + ", but an image can hold only files, directories and links", Way: "exclude it from the copied directory"}
	}
	r, err := root.Open(from)
	if err != nil {
		return e, err
	}
	defer r.Close() //nolint:errcheck // only read
	h := sha256.New()
	size, err := io.Copy(h, r)
	if err != nil {
		return e, err
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
	}
	return f.owned(layerfile.Entry{
		Name: to, Kind: tar.TypeReg, Mode: mode, Size: size, Content: hex.EncodeToString(h.Sum(nil)),
		Open: func() (io.ReadCloser, error) { return openIn(dir, from) },
	}), nil
}

// kindOf describes the type of a file that is not regular.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "not a regular file"
}

// isPointer reports whether an entry is a Git LFS pointer, which git-lfs leaves in place of
// a file that it has not fetched (git-lfs, docs/spec.md).
func isPointer(e layerfile.Entry) bool {
	const begins, most = "version https://git-lfs.github.com/spec/", 1024
	if e.Kind != tar.TypeReg || e.Size >= most || e.Size < int64(len(begins)) {
		return false
	}
	r, err := e.Open()
	if err != nil {
		return false
	}
	defer r.Close() //nolint:errcheck // only read
	head := make([]byte, len(begins))
	_, err = io.ReadFull(r, head)
	return err == nil && string(head) == begins
}

// owned returns e with f's owner and group.
func (f File) owned(e layerfile.Entry) layerfile.Entry {
	e.UID, e.GID = f.UID, f.GID
	return e
}

// openIn opens a file below dir. The root is opened again each time, since the one that
// listed the files is closed before the layer is written. Links that lead outside dir are
// an error here too, in case a file was replaced by a link meanwhile.
func openIn(dir, name string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(name)
	return f, errors.Join(err, root.Close())
}

// symlink returns the entry of a link. Its target must be inside the copied directory: a
// link to another file of the source tree would point to nothing in the image.
func symlink(root *os.Root, name, rel, at string) (layerfile.Entry, error) {
	target, err := root.Readlink(filepath.FromSlash(name))
	if err != nil {
		return layerfile.Entry{}, err
	}
	if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target)) {
		return layerfile.Entry{}, &specerr.Error{Field: "files", Reason: fmt.Sprintf("%s is a link to %s, which is outside the copied directory", name, target), Way: "copy the target of the link instead"}
	}
	return layerfile.Entry{Name: at, Kind: tar.TypeSymlink, Mode: 0o777, Link: filepath.ToSlash(target)}, nil
}
