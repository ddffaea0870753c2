package manifest

import (
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxDepth bounds the indexes within each other, the outermost included.
const maxDepth = 8

// A Node is what a walk reaches: an entry of an index, or the content that the walk began
// with.
type Node struct {
	Descriptor v1.Descriptor
	// Within is the index within the first that lists the node; nil for the entries of the
	// first index, and for the first content itself.
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

// A Walker visits all that content reaches, but for configs and layers.
type Walker struct {
	// Missing reads what is not found in the index that lists it; nil is an error then.
	Missing func(v1.Descriptor) (Content, error)
}

// Walk is that of the zero [Walker].
func Walk(c Content, visit func(Node) error) error { return Walker{}.Walk(c, visit) }

// Walk calls visit for each entry of each index that c reaches, and for c: entries in the
// order of their index, and before that index itself. An index that is listed twice is
// entered once. Indexes are read, and nothing else. More than eight indexes within each
// other, and more than 10,000 entries of one, are [ErrMismatch]. An error of visit ends the
// walk.
func (w Walker) Walk(c Content, visit func(Node) error) error {
	d, err := Describe(c)
	if err != nil {
		return err
	}
	own := walk{Walker: w, visit: visit, entered: map[v1.Hash]bool{}}
	return own.node(Node{Descriptor: d, open: func() (Content, error) { return c, nil }}, nil, 0)
}

// A walk is one call of [Walker.Walk].
type walk struct {
	Walker
	visit   func(Node) error
	entered map[v1.Hash]bool // indexes
}

// node visits n after its entries, which are within an index that is depth deep.
func (w *walk) node(n Node, within *v1.Hash, depth int) error {
	if n.Descriptor.MediaType.IsIndex() && !w.entered[n.Descriptor.Digest] {
		w.entered[n.Descriptor.Digest] = true
		if depth == maxDepth {
			return fmt.Errorf("indexes are nested more than %d deep: %w", maxDepth, ErrMismatch)
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
			if errors.Is(err, ErrNotFound) && w.Missing != nil {
				return w.Missing(d)
			}
			return c, err
		}}
		if err := w.node(n, &d.Digest, depth); err != nil {
			return err
		}
	}
	return nil
}
