package manifest

import (
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// MaxDepth is the number of indexes that may be nested in each other, including the
// outermost.
const MaxDepth = 8

// A Node is what a walk visits: an entry of an index, or the content that the walk began
// with.
type Node struct {
	Descriptor v1.Descriptor
	// Within is the nested index that lists the node. It is nil for the first content and
	// for the entries of the first index.
	Within *v1.Hash

	open func() (Content, error)
}

// Open reads what the descriptor describes. Content with another digest is [ErrMismatch].
func (n Node) Open() (Content, error) {
	c, err := n.open()
	if err != nil {
		return nil, err
	}
	is, err := c.Digest()
	if err == nil && is != n.Descriptor.Digest {
		err = fmt.Errorf("%s stands for %s: %w", n.Descriptor.Digest, is, ErrMismatch)
	}
	return c, err
}

// Walk calls visit for each entry of each index that c reaches, and for c itself: entries
// in the order of their index, and before that index. This is the order in which a sink
// must store them. An index that is listed twice is visited twice, but its entries once.
// Only indexes are read. If missing is not nil, it returns a child that its index reports
// as not found: a sink may have the child already. More than [MaxDepth] nested indexes, and more than 10,000 entries of
// one, are [ErrMismatch]. An error of visit ends the walk and is returned.
func Walk(c Content, missing func(v1.Descriptor) (Content, error), visit func(Node) error) error {
	d, err := Describe(c)
	if err != nil {
		return err
	}
	own := walk{missing: missing, visit: visit, entered: map[v1.Hash]bool{}}
	return own.node(Node{Descriptor: d, open: func() (Content, error) { return c, nil }}, nil, 0)
}

// A walk is one call of [Walk]. It runs in one goroutine.
type walk struct {
	missing func(v1.Descriptor) (Content, error)
	visit   func(Node) error
	entered map[v1.Hash]bool // indexes whose entries were visited
}

// node visits n after its entries. within is the nested index that n is itself, and nil
// for the first content; depth is the number of indexes around n.
func (w *walk) node(n Node, within *v1.Hash, depth int) error {
	if n.Descriptor.MediaType.IsIndex() && !w.entered[n.Descriptor.Digest] {
		w.entered[n.Descriptor.Digest] = true
		if depth == MaxDepth {
			return fmt.Errorf("indexes are nested more than %d deep: %w", MaxDepth, ErrMismatch)
		}
		c, err := n.Open()
		if err != nil {
			return err
		}
		idx, ok := c.(v1.ImageIndex)
		if !ok {
			return fmt.Errorf("%s is not an index: %w", n.Descriptor.Digest, ErrMismatch)
		}
		if err := w.entries(idx, within, depth+1); err != nil {
			return err
		}
	}
	return w.visit(n)
}

// entries visits the entries of idx in their order.
func (w *walk) entries(idx v1.ImageIndex, within *v1.Hash, depth int) error {
	im, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	if len(im.Manifests) > maxEntries {
		return fmt.Errorf("an index of more than %d entries: %w", maxEntries, ErrMismatch)
	}
	for _, d := range im.Manifests {
		n := Node{Descriptor: d, Within: within, open: func() (Content, error) {
			c, err := ChildOf(idx, d)
			if errors.Is(err, ErrNotFound) && w.missing != nil {
				return w.missing(d)
			}
			return c, err
		}}
		if err := w.node(n, &d.Digest, depth); err != nil {
			return err
		}
	}
	return nil
}
