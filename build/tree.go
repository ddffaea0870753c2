package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/cache"
)

// maxEntries bounds what is read of a layer's headers; the largest bases have a
// tenth of it.
const maxEntries = 2_000_000

// maxLinks bounds how many links a path may lead through, as Linux does.
const maxLinks = 40

// A node is what a base has at a path.
type node struct {
	Kind byte   `json:"kind"` // of tar
	Mode int64  `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	Link string `json:"link,omitempty"`

	Text  string `json:"text,omitempty"`  // what /etc/passwd and /etc/group hold
	Glibc string `json:"glibc,omitempty"` // the version that a C library is of
}

// A tree is the directories, links and files of a base, by path without a
// leading slash.
type tree map[string]node

// change is a tree's node as one layer adds it, or takes it away.
type change struct {
	Path string `json:"path"`
	Node *node  `json:"node"` // nil: gone; Opaque: only its content
	All  bool   `json:"all,omitempty"`
}

// treeRecord is the kind of the cache's records of what layers change.
const treeRecord = "tree-2"

// readTree reads the headers of every layer. That costs their download, so it is
// done only for entries that leave mabuild's own directory, users by name and
// programs that want a loader, and once a digest.
func readTree(layers []v1.Layer, c *cache.Cache) (tree, error) {
	t := tree{}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		var changes []change
		if !c.Load(treeRecord, digest.String(), &changes) {
			if changes, err = readHeaders(l); err != nil {
				return nil, fmt.Errorf("layer %s: %w", digest, err)
			}
			_ = c.Store(treeRecord, digest.String(), changes) // it is read again if this was lost
		}
		t.apply(changes)
	}
	return t, nil
}

// readHeaders lists what a layer changes, whiteouts first as they only concern
// the layers below (image-spec, layer.md).
func readHeaders(l v1.Layer) (changes []change, err error) {
	r, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	var gone []change
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(gone)+len(changes) >= maxEntries {
			return nil, fmt.Errorf("has more than %d entries", maxEntries)
		}
		name := clean(h.Name)
		dir, file := path.Split(name)
		switch hidden, ok := strings.CutPrefix(file, ".wh."); {
		case file == ".wh..wh..opq":
			gone = append(gone, change{Path: clean(dir), All: true})
		case ok:
			gone = append(gone, change{Path: clean(path.Join(dir, hidden))})
		case name != "":
			n := &node{Kind: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Link: h.Linkname}
			if err := n.read(name, h, archive); err != nil {
				return nil, err
			}
			changes = append(changes, change{Path: name, Node: n})
		}
	}
	// What follows the archive's end is read too, so that the layer's digest is
	// checked to its last byte.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return slices.Concat(gone, changes), nil
}

// clean makes a path of a layer relative to the root, which is "".
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// apply makes a layer's changes: what it hides goes first, all in one pass.
func (t tree) apply(changes []change) {
	hidden := map[string]bool{} // by path; true: with what is at it, not only below it
	for _, c := range changes {
		if c.Node == nil {
			hidden[c.Path] = hidden[c.Path] || !c.All
		} else if old, ok := t[c.Path]; ok && old.Kind == tar.TypeDir && c.Node.Kind != tar.TypeDir {
			hidden[c.Path] = true
		}
	}
	if len(hidden) > 0 {
		for name := range t {
			if hides(hidden, name) {
				delete(t, name)
			}
		}
	}
	for _, c := range changes {
		if c.Node != nil {
			t[c.Path] = *c.Node
		}
	}
}

// hides reports whether name is hidden, or lies below what is.
func hides(hidden map[string]bool, name string) bool {
	if hidden[name] {
		return true
	}
	for at := name; at != ""; {
		if at, _ = path.Split(at); at != "" {
			at = strings.TrimSuffix(at, "/")
		}
		if _, ok := hidden[at]; ok {
			return true
		}
	}
	return false
}

// resolve returns where a path really leads, through the links of the base, the
// last element's too.
func (t tree) resolve(name string) (string, error) {
	links := 0
	var at string
	rest := strings.Split(clean(name), "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = clean(path.Dir("/" + at))
			continue
		}
		next := path.Join(at, part)
		n, ok := t[next]
		if !ok || n.Kind != tar.TypeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s: too many links in the base", clean(name))
		}
		if path.IsAbs(n.Link) {
			at = ""
		}
		rest = append(strings.Split(n.Link, "/"), rest...)
	}
	return at, nil
}

// place moves the entries to where their paths lead in the base and adds the
// directories above them: those of the base with their owner and mode, since a
// runtime may take the upper layer's word for them, others as root's with 0755.
func (t tree) place(entries []entry) ([]entry, error) {
	placed := map[string]entry{}
	for _, e := range entries {
		name, err := t.resolve(e.name)
		if err != nil {
			return nil, err
		}
		there, exists := t[name]
		switch {
		case exists && there.Kind == tar.TypeDir && e.kind == tar.TypeDir:
			e.mode, e.uid, e.gid = there.Mode, there.UID, there.GID
		case exists && there.Kind == tar.TypeDir:
			return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is a directory in the base", name)}
		}
		e.name = name
		if other, twice := placed[name]; twice && (other.kind != tar.TypeDir || e.kind != tar.TypeDir) {
			return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s would be written twice", name)}
		}
		placed[name] = e
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if other, ok := placed[dir]; ok {
				if other.kind != tar.TypeDir {
					return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s would lie in /%s, which is no directory", name, dir)}
				}
				continue
			}
			parent := directory(dir, 0o755)
			if n, ok := t[dir]; ok && n.Kind != tar.TypeDir {
				return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s is no directory in the base", dir)}
			} else if ok {
				parent.mode, parent.uid, parent.gid = n.Mode, n.UID, n.GID
			}
			placed[dir] = parent
		}
	}
	for name, e := range placed { // one may have come after what lies below it
		if parent, ok := placed[path.Dir(name)]; ok && parent.kind != tar.TypeDir {
			return nil, &SpecError{Field: "files", Reason: fmt.Sprintf("/%s would lie in /%s, which is no directory", e.name, parent.name)}
		}
	}
	list := make([]entry, 0, len(placed))
	for _, e := range placed {
		list = append(list, e)
	}
	return list, nil
}
