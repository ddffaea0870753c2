// Package rootfs reads the layers of a base image into the file system that they
// make together. The layers are untrusted: a [Tree] has one budget over all of
// them, and its work is linear in the bytes read.
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

// The bounds of one base, over all its layers.
const (
	// Budget is how many bytes may be kept of a base: names, link targets and what
	// [Tree.Content] returns. A name costs its length, an eighth of it and [NodeCost],
	// so 590,000 files with names of 15 bytes fit, or 410,000 with names of 60.
	Budget = 64 << 20

	// NodeCost is what a name costs beside its bytes: the node, and its place in the
	// hash table.
	NodeCost = 96

	// ContentCost is what the content of a file costs beside what [Tree.Content] says.
	ContentCost = 96

	// MaxPath is the length of a path or a link target, in bytes; PATH_MAX of Linux.
	MaxPath = 4096

	// MaxRead is how many bytes of the layers are read, compressed and uncompressed
	// each.
	MaxRead = 32 << 30

	maxLayers = 1<<16 - 1
	maxLinks  = 40 // that a path may lead through, as on Linux
)

// What a base has too much of. They are in the chain of a [*LayerError].
var (
	ErrBudget = fmt.Errorf("the names, links and databases of the base image need more than %d MiB", Budget>>20)
	ErrPath   = fmt.Errorf("a path or link target of more than %d bytes", MaxPath)
	ErrRead   = fmt.Errorf("the base image has more than %d GiB of content", MaxRead>>30)
	errLayers = fmt.Errorf("the base image has more than %d layers", maxLayers)
)

// A Change is what one entry of a layer does: it adds a file, directory or link, or
// hides what lower layers have.
type Change struct {
	Path     string // relative to the root, as path.Clean writes it
	Hide     Hide
	Kind     byte // of archive/tar
	Mode     int64
	UID, GID int
	Link     string // a link's target
	Content  any    // what [Tree.Content] returned
	Cost     int64  // of Content, in bytes
}

// Hide says what a whiteout hides of the layers below its own (image-spec, layer.md).
type Hide byte

// The kinds of whiteouts.
const (
	HideNothing Hide = iota // the change adds something
	HidePath                // the path, and what is below it
	HideBelow               // what is below the path: the directory is opaque
)

// A Tree is the file system of a base. The zero value is empty and keeps the content
// of no file.
type Tree struct {
	// Wants reports whether the content of a regular file is read; nil: of none.
	Wants func(name string) bool

	// Content reads such a file and returns what is kept of it, and its cost in
	// bytes. It returns [ErrBudget] rather than keep more than room bytes.
	Content func(name string, r io.Reader, room int64) (kept any, cost int64, err error)

	// OnlyWanted has the tree keep those files alone, and the directories above them
	// without their modes and owners.
	OnlyWanted bool

	nodes    [][]node // in chunks, so that none moves as the tree grows; 0 is the root
	count    uint32   // of nodes
	table    []uint32 // nodes by hash of parent and name, open addressing; 0: free
	seed     maphash.Seed
	contents map[uint32]content // of the nodes that have some
	layer    uint16             // whose changes are made, from 1
	used     int64              // of Budget
	steps    int64              // path elements, table slots and nodes that were looked at
	read     int64              // uncompressed bytes
	fetched  int64              // compressed bytes
}

// A node is a name in a directory.
type node struct {
	name, link string
	uid, gid   int
	parent     uint32
	layer      uint16 // the last one that has it; 0: none, there are only nodes below it
	below      uint16 // what is below is hidden unless this layer or a later one has it
	mode       uint16
	kind       byte
}

// content is what is kept of a file, and what that costs.
type content struct {
	value any
	cost  int64
}

// chunk is the number of nodes that are allocated at once.
const chunk = 1 << 12

func (t *Tree) at(i uint32) *node { return &t.nodes[i/chunk][i%chunk] }

// begin begins the next layer.
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

// append adds a node behind the others.
func (t *Tree) append(n node) uint32 {
	if t.count%chunk == 0 {
		t.nodes = append(t.nodes, make([]node, 0, chunk))
	}
	last := &t.nodes[t.count/chunk]
	*last = append(*last, n)
	t.count++
	return t.count - 1
}

// hash is seeded, so that nobody can choose names that share a slot.
func (t *Tree) hash(parent uint32, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], parent)
	_, _ = h.Write(b[:]) // never fails
	_, _ = h.WriteString(name)
	return h.Sum64()
}

// slot returns the place of a name in the table, free or taken by it.
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

// child returns the node of a name in a directory, whether hidden or not.
func (t *Tree) child(parent uint32, name string) (uint32, bool) {
	at := *t.slot(parent, name)
	return at, at != 0
}

// grow makes the table twice as large.
func (t *Tree) grow() {
	t.table = make([]uint32, 2*len(t.table))
	for i := uint32(1); i < t.count; i++ {
		t.steps++
		*t.slot(t.at(i).parent, t.at(i).name) = i
	}
}

// add returns the node of a name in a directory and makes it if need be.
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
	// The clone lets go of the rest of the path.
	*at = t.append(node{name: strings.Clone(name), parent: parent})
	return *at, nil
}

// textCost is what the allocator takes for a text: it rounds up by an eighth at most.
func textCost(s string) int64 { return int64(len(s) + len(s)/8) }

// charge takes n bytes of the budget.
func (t *Tree) charge(n int64) error {
	if n > Budget-t.used {
		return ErrBudget
	}
	t.used += n
	return nil
}

// find returns the node of a path, whether hidden or not.
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

// elements gives the names along a path; none of the root's, which is "".
func elements(name string) iter.Seq[string] {
	if name == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(name, "/")
}

// apply makes one change of the present layer.
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

// wants reports whether c adds a file whose content is read.
func (t *Tree) wants(c Change) bool {
	return t.Wants != nil && c.Hide == HideNothing && c.Kind == tar.TypeReg && t.Wants(c.Path)
}

// hide makes a whiteout of the present layer, which leaves what the layer itself has.
func (t *Tree) hide(at uint32, what Hide) {
	n := t.at(at)
	if what == HidePath && n.layer < t.layer && at != 0 {
		t.drop(at)
	}
	n.below = t.layer
}

// replace hides what lower layers have below a node that something of a kind takes.
func (t *Tree) replace(at uint32, kind byte) {
	if kind != tar.TypeDir {
		t.at(at).below = t.layer
	}
}

// drop takes what is at a node away and gives back what it cost, but for its name.
func (t *Tree) drop(at uint32) {
	n := t.at(at)
	t.used -= textCost(n.link) + t.contents[at].cost
	n.link, n.layer = "", 0
	delete(t.contents, at)
}

// A Node is what a base has at a path.
type Node struct {
	Kind     byte // of archive/tar
	Mode     int64
	UID, GID int
	Link     string // a link's target
	Content  any    // what [Tree.Content] returned

	tree *Tree
	at   uint32
}

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

// All gives all nodes that are not hidden, each after the directories above it.
func (t *Tree) All() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		hidden := make([]uint16, t.count) // unless of this layer or a later one
		for i := uint32(1); i < t.count; i++ {
			n := t.at(i)
			hidden[i] = max(hidden[n.parent], t.at(n.parent).below)
			if n.layer > 0 && n.layer >= hidden[i] && !yield(t.node(i)) {
				return
			}
		}
	}
}

// Lookup returns what is at a path, relative to the root and cleaned. It follows no
// links.
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

// A position is where a path has led so far.
type position struct {
	name    string
	at      uint32
	hidden  uint16 // what is at it is hidden unless of this layer or a later one
	missing bool   // it has no node
}

// step goes from a place to a name in it.
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

// present reports whether something is at p that is not hidden.
func (t *Tree) present(p position) bool {
	return !p.missing && t.at(p.at).layer > 0 && t.at(p.at).layer >= p.hidden
}

// errLinks says that a path leads through more links than a kernel follows.
var errLinks = errors.New("too many links in the base image")

// Resolve returns where a path leads through the links of the base, including a
// link at its end. What does not exist leads where it says. A result longer than
// [MaxPath] is [ErrPath].
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

// Clean makes a path relative to the root, which is "".
func Clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}
