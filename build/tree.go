package build

import (
	"archive/tar"
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// treeRecord is the kind of the cache records that hold the changes of a layer. Its
// number must change when [rootfs.Change], or what newTree keeps of a file, changes.
const treeRecord = "tree-3"

// A layerRecord names the file in the cache that has the changes of a layer.
type layerRecord struct {
	Changes v1.Hash `json:"changes"`
}

// A treeReader reads the file systems of bases. Only one of them is in memory at a time,
// over all platforms and programs, so the memory is bounded by the budget of one tree.
type treeReader struct {
	cache *cache.Cache // nil: every layer is read again
	one   sync.Mutex   // held while a tree is in memory
}

// read calls use with the file system of the layers of a base. use must not keep the
// tree.
func (r *treeReader) read(of []v1.Layer, use func(*rootfs.Tree) error) error {
	r.one.Lock()
	defer r.one.Unlock()
	t, err := readTree(of, r.cache)
	if err != nil {
		return err
	}
	return use(t)
}

// readTree reads the layers of a base into a tree. The first time this downloads the
// layers, so callers do it only if they must: for files outside ownDir, for users by name
// and for programs with a loader. Later it reads the changes of each layer from the
// cache.
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
	var kept layerRecord
	if !c.Load(treeRecord, digest.String(), &kept) {
		return false, nil
	}
	f, _, err := c.Get(kept.Changes)
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
	kept := layerRecord{v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", hasher.Sum(nil))}}
	if f.Commit(kept.Changes) == nil {
		_ = c.Store(treeRecord, digest.String(), kept) // lost: the layer is read again
	}
	return nil
}

// clean returns a path of a layer relative to the root, which is "".
func clean(name string) string { return rootfs.Clean(name) }

// resolvePaths returns the entries with the paths that their names lead to in the base,
// and with the directories above them. Links of the base are followed, so that a file
// below /var/run, say, does not replace the link by a directory.
//
// A directory that the base has keeps its owner and mode: a container runtime may use
// those of the upper layer. Other directories belong to root and have mode 0755. The
// result is not sorted.
func resolvePaths(t *rootfs.Tree, entries []layerfile.Entry) ([]layerfile.Entry, error) {
	placed := map[string]layerfile.Entry{}
	for _, e := range entries {
		name, err := t.Resolve(e.Name)
		if err != nil {
			return nil, err
		}
		there, exists := t.Lookup(name)
		switch {
		case exists && there.Kind == tar.TypeDir && e.Kind == tar.TypeDir:
			e.Mode, e.UID, e.GID = there.Mode, there.UID, there.GID
		case exists && there.Kind == tar.TypeDir:
			return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is a directory in the base image", name)}
		}
		e.Name = name
		if other, twice := placed[name]; twice && (other.Kind != tar.TypeDir || e.Kind != tar.TypeDir) {
			return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is written twice", name)}
		}
		placed[name] = e
		// The layer gets an entry for each directory above its files.
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if other, ok := placed[dir]; ok {
				if other.Kind != tar.TypeDir {
					return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is inside /%s, which is not a directory", name, dir)}
				}
				continue
			}
			parent := layerfile.Directory(dir, 0o755)
			if n, ok := t.Lookup(dir); ok && n.Kind != tar.TypeDir {
				return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is not a directory in the base image", dir)}
			} else if ok {
				parent.Mode, parent.UID, parent.GID = n.Mode, n.UID, n.GID
			}
			placed[dir] = parent
		}
	}
	for name, e := range placed { // a file may come after an entry below it
		if parent, ok := placed[path.Dir(name)]; ok && parent.Kind != tar.TypeDir {
			return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is inside /%s, which is not a directory", e.Name, parent.Name)}
		}
	}
	list := make([]layerfile.Entry, 0, len(placed))
	for _, e := range placed {
		list = append(list, e)
	}
	return list, nil
}
