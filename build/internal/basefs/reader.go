// Package basefs answers what a build asks the file system of a base image: the paths that
// names lead to, the users and groups, and the C library with its loader.
//
// The base is untrusted. Of its files only the lists of accounts and the versions of glibc
// are kept, one base is in memory at a time, and the budget of [rootfs] bounds it. What was
// read of a layer is kept in the cache, so a layer is downloaded once.
//
// The package knows neither a Spec nor a program: it compares a base with what it is told
// that a program requires. It does not decide when a base is read.
package basefs

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// treeRecord is the kind of the cache records that name the file with the changes of a
// layer: the digest of the file is under the key "changes". The number in the kind must
// change when [rootfs.Change], or what newTree keeps of a file, changes.
const treeRecord = "tree-4"

// A Reader reads the file systems of bases. Only one of them is in memory at a time,
// over all platforms and programs, so the memory is bounded by the budget of one tree.
type Reader struct {
	Cache *cache.Cache // nil: every layer is read again

	one sync.Mutex // held while a tree is in memory
}

// Read calls use with the file system of the layers of a base. use must not keep the
// tree.
func (r *Reader) Read(of []v1.Layer, use func(*rootfs.Tree) error) error {
	r.one.Lock()
	defer r.one.Unlock()
	t, err := readTree(of, r.Cache)
	if err != nil {
		return err
	}
	return use(t)
}

// readTree reads the layers of a base into a tree. The first time this downloads the
// layers, so callers do it only if they must. Later it reads the changes of each layer
// from the cache.
//
// A base that exceeds the limits is a [*rootfs.LayerError]. If reading fails after a
// record was used, the record may be damaged; the layers are then read again without the
// cache.
func readTree(layers []v1.Layer, c *cache.Cache) (*rootfs.Tree, error) {
	t, recalled := newTree(), false
	var err error
	// Each layer is applied to the result of those before it, so the order is fixed.
	for _, l := range layers {
		var found bool
		if found, err = recallLayer(t, l, c); !found && err == nil {
			err = addLayer(t, l, c)
		}
		if recalled = recalled || found; err != nil {
			break
		}
	}
	if err != nil && recalled { // perhaps because of a damaged record
		return readTree(layers, nil)
	}
	return t, err
}

// recallLayer applies the changes of a layer from the cache, and reports whether it has
// changed the tree. It returns false and no error if the cache does not have them.
func recallLayer(t *rootfs.Tree, l v1.Layer, c *cache.Cache) (found bool, err error) {
	digest, err := l.Digest()
	if err != nil {
		return false, err
	}
	var kept map[string]v1.Hash
	if !c.Load(treeRecord, digest.String(), &kept) {
		return false, nil
	}
	f, _, err := c.Get(kept["changes"])
	if err != nil {
		return false, nil
	}
	defer f.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return false, nil
	}
	// Changes are decoded one by one, so that the list is never in memory as a whole.
	list := gob.NewDecoder(z)
	return true, t.Replay(digest, func() (change rootfs.Change, err error) {
		err = list.Decode(&change)
		return change, err
	})
}

// addLayer reads a layer and stores its changes in the cache. Failures of the cache are
// ignored: the layer is read again next time. The file is committed before the record
// that names it is stored.
func addLayer(t *rootfs.Tree, l v1.Layer, c *cache.Cache) error {
	f, err := c.Create()
	if err != nil {
		return t.Add(l, nil)
	}
	defer f.Cleanup()
	hasher, err := v1.Hasher("sha256")
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(io.MultiWriter(f, hasher))
	z, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return err
	}
	list := gob.NewEncoder(z)
	var lost error // the first failure of the cache
	if err := t.Add(l, func(change rootfs.Change) {
		if lost == nil {
			lost = list.Encode(change)
		}
	}); err != nil {
		return err
	}
	if lost = errors.Join(lost, z.Close(), buffered.Flush()); lost != nil {
		return nil
	}
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	changes := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", hasher.Sum(nil))}
	if f.Commit(changes) == nil {
		_ = c.Store(treeRecord, digest.String(), map[string]v1.Hash{"changes": changes}) // lost: the layer is read again
	}
	return nil
}

// newTree returns an empty tree that keeps the content of few files: the lists of users
// and groups as text, the version of each glibc, and what the databases of dpkg list. The
// files are untrusted; a large list is an error, and glibc is read as a stream.
func newTree() *rootfs.Tree {
	return &rootfs.Tree{
		Wants: func(name string) bool {
			return name == passwdFile || name == groupFile || isGlibc(path.Base(name)) || debian.IsStatus(name)
		},
		Content: func(name string, r io.Reader, room int64) (any, int64, error) {
			if debian.IsStatus(name) {
				text, err := condense(name, r, room)
				return text, int64(len(text)), err
			}
			if name != passwdFile && name != groupFile {
				version, err := elf.GlibcOf(r)
				return version, int64(len(version)), err
			}
			text, err := io.ReadAll(io.LimitReader(r, maxAccounts+1))
			switch {
			case err != nil:
				return nil, 0, err
			case len(text) > maxAccounts:
				return nil, 0, fmt.Errorf("/%s has more than %d bytes", name, maxAccounts)
			case int64(len(text)) > room:
				return nil, 0, rootfs.ErrBudget
			}
			return string(text), int64(len(text)), nil
		},
	}
}
