package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/local"
)

// A Fence restricts the paths that a file of a tree may name: to the tree, and to
// directories that the user allows. It holds the directories open until Close.
type Fence struct {
	trees []*intree.Tree
	trust Trust
}

// NewFence returns the fence for a file in dir. A directory that the user allows must
// exist. If dir cannot be opened as a tree, as in /dev or /proc, the fence has only the
// allowed directories.
func NewFence(dir string, t Trust) (*Fence, error) {
	root, err := intree.Root(dir)
	if err != nil {
		return nil, err
	}
	f := &Fence{trust: t}
	for i, dir := range append([]string{root}, t.Paths...) {
		tree, err := intree.New(dir)
		if err != nil && i > 0 {
			f.Close()
			return nil, fmt.Errorf("--%s %s: %w", allowPath, dir, bare(err))
		}
		if err == nil {
			f.trees = append(f.trees, tree)
		}
	}
	return f, nil
}

// Close releases the directories. The fence must not be used afterwards.
func (f *Fence) Close() {
	for _, t := range f.trees {
		_ = t.Close() // was opened for reading
	}
}

// Dirs returns the directories that paths may lead into, with links resolved, the tree
// first. A nil Fence has none.
func (f *Fence) Dirs() []string {
	var list []string
	if f == nil {
		return nil
	}
	for _, t := range f.trees {
		list = append(list, t.Dir())
	}
	return list
}

// Check returns an error if a path, with links followed, leads out of the tree and of the
// directories that the user allows. The path need not exist. The result holds for the
// moment of the call: readers open the file through the tree again.
func (f *Fence) Check(path string) error {
	err := intree.ErrOutside
	for i, t := range f.trees {
		if _, terr := t.Resolve(path); terr == nil {
			return nil
		} else if i == 0 {
			err = terr
		}
	}
	return outside(path, bare(err))
}

// CheckPlace checks the path of a local place. A daemon is always outside the tree. An
// invalid place is accepted here, since the code that parses it reports the error.
func (f *Fence) CheckPlace(text string) error {
	place, err := local.Parse(text)
	switch {
	case err != nil:
		return nil // its parser reports it
	case place.Form == local.FormDockerDaemon || place.Form == local.FormContainerd:
		return forUsers("%s: is outside the source tree", text)
	case place.Path == local.Stdout:
		return nil
	}
	return f.Check(place.Path)
}

// outside says that a path leads out of the tree.
func outside(path string, err error) error {
	e := &hint.Error{Kind: hint.Usage, Err: fmt.Errorf("%s: %w", path, err)}
	switch {
	case errors.Is(err, intree.ErrGit):
		e.Hint = "use another path; git's directory can contain credentials"
	case errors.Is(err, intree.ErrOutside):
		e.Hint = "copy it into the source tree, or allow its directory with --" + allowPath + " DIR; a flag or an environment variable may name any path"
	}
	return e
}

// Read reads a file of the tree. Its links must not lead out of the tree. Unless the user
// named it, another user of the machine must not have been able to put it there
// ([intree.Owned]). It reads at most one byte more than [yamlconf.MaxFile], from which the
// decoder sees that the file is too large.
func (f *Fence) Read(path string, named bool) (_ []byte, err error) {
	return f.read(path, named, yamlconf.MaxFile)
}

// read is Read with another limit.
func (f *Fence) read(path string, named bool, limit int64) (_ []byte, err error) {
	if err := intree.Owned(path); err != nil && !named {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return os.Open(path) } // as a shell's <(…) in /dev
	if len(f.trees) > 0 {
		open = func() (io.ReadCloser, error) { return f.open(path) }
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil, intree.ErrIrregular
		}
	}
	r, err := open()
	if err != nil {
		return nil, bare(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	return data, bare(err)
}

// ReadFile reads a file that the user names, such as the input of from-spec. It returns
// at most one byte more than limit; the caller rejects that. In a tree, links must
// not lead out of it except to what t allows.
func ReadFile(path string, limit int64, t Trust) ([]byte, error) {
	fence, err := NewFence(filepath.Dir(path), t)
	if err != nil {
		return nil, err
	}
	defer fence.Close()
	return fence.read(path, true, limit)
}

// open opens a file below the first directory of the fence that contains it. If none
// does, it returns the error for the tree itself.
func (f *Fence) open(path string) (io.ReadCloser, error) {
	var first error
	for _, t := range f.trees {
		file, err := t.Open(path)
		if err == nil {
			return file, nil
		}
		if first == nil {
			first = err
		}
	}
	if errors.Is(first, intree.ErrOutside) || errors.Is(first, intree.ErrGit) {
		return nil, outside(path, bare(first))
	}
	return nil, first
}

// bare removes operation and path from an error, since the caller's message has them.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
