// Package rootfs applies the layers of a base image in their order, and makes one file
// tree of them (image-spec, layer.md).
//
// The layers are untrusted. A [Tree] has one memory budget over all of them, and its work
// is linear in the bytes read. It never writes to disk. It keeps names, modes, owners and
// links, and the content of only those files that the caller asks for.
//
// It does not verify the digest of a layer; the reader of the layer does that. The order
// of the layers is the caller's.
package rootfs

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
)

// The limits for one base image, over all its layers.
const (
	// Budget is the number of bytes that may be kept of a base: names, link targets and
	// what [Tree.Content] returns. A name costs its length, an eighth of that and
	// [NodeCost], so 520,000 files with names of 15 bytes fit, or 359,000 with names of
	// 60.
	Budget = 56 << 20

	// NodeCost is the cost of a name in addition to its bytes: its node and its slot in
	// the hash table.
	NodeCost = 96

	// ContentCost is the cost of a file's content in addition to what [Tree.Content]
	// reports.
	ContentCost = 96

	// MaxPath is the maximum length of a path or a link target in bytes, PATH_MAX of
	// Linux.
	MaxPath = 4096

	// MaxRead is the maximum number of bytes read from the layers: compressed bytes and
	// uncompressed bytes each.
	MaxRead = 32 << 30

	maxLayers = 1<<16 - 1
	maxLinks  = 40 // in one path, as on Linux
)

// The errors for a base that exceeds a limit. They are in the chain of a [*LayerError].
var (
	ErrBudget = fmt.Errorf("the names, links and databases of the base image need more than %d MiB", Budget>>20)
	ErrPath   = fmt.Errorf("a path or link target of more than %d bytes", MaxPath)
	ErrRead   = fmt.Errorf("the base image has more than %d GiB of content", MaxRead>>30)
	errLayers = fmt.Errorf("the base image has more than %d layers", maxLayers)
)

// A Change is what one entry of a layer does: it adds a file, directory or link, or hides
// files of lower layers. It has only exported fields, so that it can be stored.
type Change struct {
	Path     string // relative to the root, clean as by path.Clean
	Hide     Hide
	Kind     byte // a type flag of archive/tar
	Mode     int64
	UID, GID int
	Link     string // the target of a link
	Content  any    // the result of [Tree.Content], nil for most files
	Cost     int64  // of Content, in bytes
}

// Hide says which files of lower layers a whiteout hides (image-spec, layer.md,
// Whiteouts). It never hides files of the layer that has it, wherever it stands in the
// archive.
type Hide byte

// The kinds of whiteouts.
const (
	HideNothing Hide = iota // the change adds something
	HidePath                // the path and all below it
	HideBelow               // all below the path, which is an opaque directory
)

// A Tree is the file tree of a base image. The zero value is empty and keeps the content
// of no file. The exported fields must be set before the first layer is added.
//
// It is not safe for concurrent use while layers are added. Afterwards Lookup and Resolve
// still count their steps, so they need a lock as well.
//
// Nodes are never removed. A node has the number of the last layer that has its path, and
// the number of the last layer that hides what is below it. A path exists if its layer is
// not lower than any layer that hides it from above. So a whiteout of a large directory
// is one assignment, however many files are below it.
type Tree struct {
	// Wants reports whether the content of a regular file is read. With nil none is read.
	Wants func(name string) bool

	// Content reads a wanted file. It returns what is kept of it and the cost of that in
	// bytes. If it would keep more than room bytes, it returns [ErrBudget] instead. r is
	// valid during the call only.
	Content func(name string, r io.Reader, room int64) (kept any, cost int64, err error)

	// OnlyWanted limits the tree to the wanted files and the directories above them,
	// which then have no mode and no owner.
	OnlyWanted bool

	nodes    [][]node // in chunks, so that pointers to nodes stay valid; 0 is the root
	count    uint32   // of nodes
	table    []uint32 // nodes by parent and name, open addressing; 0 is a free slot
	seed     maphash.Seed
	contents map[uint32]content // by node
	layer    uint16             // the number of the layer that is applied, from 1
	used     int64              // bytes of Budget
	steps    int64              // path elements, slots and nodes that were visited
	read     int64              // uncompressed bytes
	fetched  int64              // compressed bytes
}

// A node is a name in a directory.
type node struct {
	name, link string
	uid, gid   int
	parent     uint32
	layer      uint16 // the last layer that has the path; 0: none has it itself
	below      uint16 // paths below are hidden unless this or a later layer has them
	mode       uint16
	kind       byte
}

// A content is what is kept of a file, and its cost in bytes.
type content struct {
	value any
	cost  int64
}

// chunk is the number of nodes that are allocated together.
const chunk = 1 << 12

// at returns a node by its number. The pointer stays valid while the tree grows.
func (t *Tree) at(i uint32) *node { return &t.nodes[i/chunk][i%chunk] }

// begin starts the next layer. The first call makes the root.
func (t *Tree) begin() error {
	if t.layer == maxLayers {
		return errLayers
	}
	if t.layer++; t.count == 0 {
		t.seed, t.contents = maphash.MakeSeed(), map[uint32]content{}
		t.append(node{layer: 1, kind: tar.TypeDir, mode: 0o755})
		t.table = make([]uint32, 1024)
	}
	return nil
}

// append adds a node after the others and returns its number.
func (t *Tree) append(n node) uint32 {
	if t.count%chunk == 0 {
		t.nodes = append(t.nodes, make([]node, 0, chunk))
	}
	last := &t.nodes[t.count/chunk]
	*last = append(*last, n)
	t.count++
	return t.count - 1
}

// hash returns the hash of a name in a directory. The seed is random, so an image cannot
// be made to have names that share a slot.
func (t *Tree) hash(parent uint32, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], parent)
	_, _ = h.Write(b[:]) // never fails
	_, _ = h.WriteString(name)
	return h.Sum64()
}

// slot returns the slot of a name in the table: the one that has it, or a free one. The
// table always has a free slot, so the search ends.
func (t *Tree) slot(parent uint32, name string) *uint32 {
	mask := len(t.table) - 1
	for i := int(t.hash(parent, name)) & mask; ; i = (i + 1) & mask { //nolint:gosec // any bits do
		t.steps++
		at := t.table[i]
		if at == 0 || t.at(at).parent == parent && t.at(at).name == name {
			return &t.table[i]
		}
	}
}

// child returns the node of a name in a directory, also if it is hidden.
func (t *Tree) child(parent uint32, name string) (uint32, bool) {
	at := *t.slot(parent, name)
	return at, at != 0
}

// grow doubles the table and inserts all nodes again.
func (t *Tree) grow() {
	t.table = make([]uint32, 2*len(t.table))
	for i := uint32(1); i < t.count; i++ {
		t.steps++
		*t.slot(t.at(i).parent, t.at(i).name) = i
	}
}

// add returns the node of a name in a directory, and makes it if it does not exist. The
// cost is charged before memory is allocated.
func (t *Tree) add(parent uint32, name string) (uint32, error) {
	at := t.slot(parent, name)
	if *at != 0 {
		return *at, nil
	}
	if err := t.charge(NodeCost + textCost(name)); err != nil {
		return 0, err
	}
	if int(t.count)*4 > len(t.table)*3 {
		t.grow()
		at = t.slot(parent, name)
	}
	// The clone does not keep the memory of the rest of the path.
	*at = t.append(node{name: strings.Clone(name), parent: parent})
	return *at, nil
}

// textCost returns the memory that the allocator uses for s. It rounds up by an eighth at
// most.
func textCost(s string) int64 { return int64(len(s) + len(s)/8) }

// charge takes n bytes of the budget, or fails and takes nothing.
func (t *Tree) charge(n int64) error {
	if n > Budget-t.used {
		return ErrBudget
	}
	t.used += n
	return nil
}

// find returns the node of a path, also if it is hidden.
func (t *Tree) find(name string) (at uint32, ok bool) {
	if t.count == 0 {
		return 0, false
	}
	for part := range elements(name) {
		t.steps++
		if at, ok = t.child(at, part); !ok {
			return 0, false
		}
	}
	return at, true
}

// elements returns the names along a path. The root, "", has none.
func elements(name string) iter.Seq[string] {
	if name == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(name, "/")
}

// apply makes one change of the current layer. Directories above a new path get nodes,
// but they do not exist (layer 0) until some layer has an entry for them.
func (t *Tree) apply(c Change) error {
	switch {
	case len(c.Path) > MaxPath || len(c.Link) > MaxPath:
		return ErrPath
	case c.Hide != HideNothing:
		if at, ok := t.find(c.Path); ok {
			t.hide(at, c.Hide)
		}
		return nil
	case c.Path == "":
		return nil
	case t.OnlyWanted && !t.wants(c):
		if at, ok := t.find(c.Path); ok {
			t.drop(at)
			t.replace(at, c.Kind)
		}
		return nil
	}
	at := uint32(0)
	for part := range elements(c.Path) {
		t.steps++
		var err error
		if at, err = t.add(at, part); err != nil {
			return err
		}
	}
	t.drop(at)
	t.replace(at, c.Kind)
	n := t.at(at)
	n.layer, n.kind, n.mode, n.uid, n.gid = t.layer, c.Kind, uint16(c.Mode&0o7777), c.UID, c.GID
	if err := t.charge(textCost(c.Link)); err != nil {
		return err
	}
	n.link = strings.Clone(c.Link)
	if c.Content == nil {
		return nil
	}
	if err := t.charge(ContentCost + c.Cost); err != nil {
		return err
	}
	t.contents[at] = content{c.Content, ContentCost + c.Cost}
	return nil
}

// wants reports whether c adds a regular file whose content is read.
func (t *Tree) wants(c Change) bool {
	return t.Wants != nil && c.Hide == HideNothing && c.Kind == tar.TypeReg && t.Wants(c.Path)
}

// hide applies a whiteout of the current layer. Files that the current layer has itself
// stay, also if the whiteout comes after them in the archive.
func (t *Tree) hide(at uint32, what Hide) {
	n := t.at(at)
	if what == HidePath && n.layer < t.layer && at != 0 {
		t.drop(at)
	}
	n.below = t.layer
}

// replace hides what lower layers have below a node that becomes a file or a link.
func (t *Tree) replace(at uint32, kind byte) {
	if kind != tar.TypeDir {
		t.at(at).below = t.layer
	}
}

// drop removes what is at a node and gives back its cost, except that of its name.
func (t *Tree) drop(at uint32) {
	n := t.at(at)
	t.used -= textCost(n.link) + t.contents[at].cost
	n.link, n.layer = "", 0
	delete(t.contents, at)
}

// A Node is what a base has at a path. It is a copy, valid while the tree is.
type Node struct {
	Kind     byte // a type flag of archive/tar
	Mode     int64
	UID, GID int
	Link     string // the target of a link
	Content  any    // the result of [Tree.Content], nil for most files

	tree *Tree
	at   uint32
}

// node returns a node as a caller sees it.
func (t *Tree) node(at uint32) Node {
	n := t.at(at)
	return Node{Kind: n.kind, Mode: int64(n.mode), UID: n.uid, GID: n.gid, Link: n.link, Content: t.contents[at].value, tree: t, at: at}
}

// Name returns the last element of the node's path.
func (n Node) Name() string { return n.tree.at(n.at).name }

// Path returns the node's path, without a leading slash.
func (n Node) Path() string {
	var list []string
	for at := n.at; at != 0; at = n.tree.at(at).parent {
		list = append(list, n.tree.at(at).name)
	}
	slices.Reverse(list)
	return strings.Join(list, "/")
}

// All returns all nodes that are not hidden, each after the directories above it. A
// parent always has a lower number than its children, so one pass can pass on what is
// hidden.
func (t *Tree) All() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		hidden := make([]uint16, t.count) // by node: hidden unless this or a later layer has it
		for i := uint32(1); i < t.count; i++ {
			n := t.at(i)
			hidden[i] = max(hidden[n.parent], t.at(n.parent).below)
			if n.layer > 0 && n.layer >= hidden[i] && !yield(t.node(i)) {
				return
			}
		}
	}
}

// Lookup returns what is at a path, relative to the root and clean. It follows no links.
// The root itself is not found.
func (t *Tree) Lookup(name string) (Node, bool) {
	if t.count == 0 || name == "" {
		return Node{}, false
	}
	p := position{}
	for part := range elements(name) {
		if p = t.step(p, part); p.missing {
			return Node{}, false
		}
	}
	return t.node(p.at), t.present(p)
}

// A position is a path in the tree that may not exist.
type position struct {
	name    string
	at      uint32
	hidden  uint16 // what is here is hidden unless this or a later layer has it
	missing bool   // there is no node
}

// step returns the position of a name in p.
func (t *Tree) step(p position, name string) position {
	next := position{name: name, missing: true}
	if p.missing || t.count == 0 {
		return next
	}
	t.steps++
	next.hidden = max(p.hidden, t.at(p.at).below)
	at, ok := t.child(p.at, name)
	next.at, next.missing = at, !ok
	return next
}

// present reports whether the tree has something at p that is not hidden.
func (t *Tree) present(p position) bool {
	return !p.missing && t.at(p.at).layer > 0 && t.at(p.at).layer >= p.hidden
}

// errLinks is returned for a path with more links than a kernel follows.
var errLinks = errors.New("too many links in the base image")

// Resolve returns the path that a name leads to through the links of the base, including
// a link at its end. As in a chroot, .. at the root is the root, and absolute links begin
// at the root of the tree. Elements that do not exist are kept as they are. A result
// longer than [MaxPath] is [ErrPath].
func (t *Tree) Resolve(name string) (string, error) {
	var (
		places []position
		rest   = []string{name} // of the path, and of the links that it is in
		links  int
		length int
	)
	for len(rest) > 0 {
		part, more, _ := strings.Cut(rest[len(rest)-1], "/")
		if rest[len(rest)-1] = more; more == "" {
			rest = rest[:len(rest)-1]
		}
		t.steps++
		switch part {
		case "", ".":
			continue
		case "..":
			if len(places) > 0 {
				length -= len(places[len(places)-1].name) + 1
				places = places[:len(places)-1]
			}
			continue
		}
		here := position{}
		if len(places) > 0 {
			here = places[len(places)-1]
		}
		next := t.step(here, part)
		if !t.present(next) || t.at(next.at).kind != tar.TypeSymlink {
			if length += len(part) + 1; length > MaxPath {
				return "", fmt.Errorf("%.100s…: %w", Clean(name), ErrPath)
			}
			places = append(places, next)
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s: %w", Clean(name), errLinks)
		}
		link := t.at(next.at).link
		if path.IsAbs(link) {
			places, length = places[:0], 0
		}
		rest = append(rest, link)
	}
	names := make([]string, len(places))
	for i, p := range places {
		names[i] = p.name
	}
	return strings.Join(names, "/"), nil
}

// Clean returns a path relative to the root, which is "". It cannot leave the root.
func Clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}
