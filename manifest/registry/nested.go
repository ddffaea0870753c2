package registry

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
)

// A nestedIndex is an index that a Put stores. It bounds how deep indexes are nested. An
// index in it is read once, although it is opened twice: to find the depth before anything
// is sent, and to store it.
type nestedIndex struct {
	index
	depth int                                   // the number of indexes around it
	read  *once.Memo[v1.Hash, manifest.Content] // the nested indexes of a Put, errors too
}

// An index is embedded by this name, since v1.ImageIndex has a method ImageIndex.
type index = v1.ImageIndex

// errTooDeep is the error of an index in manifest.MaxDepth others.
var errTooDeep = mismatch("indexes are nested more than %d deep", manifest.MaxDepth)

// nestedIn returns idx as it is stored. An index that is none yet is the outermost.
func nestedIn(idx v1.ImageIndex) *nestedIndex {
	if x, ok := idx.(*nestedIndex); ok {
		return x
	}
	return &nestedIndex{index: idx, read: new(once.Memo[v1.Hash, manifest.Content])}
}

// child reads an entry of x.
func (x *nestedIndex) child(ctx context.Context, d v1.Descriptor) (manifest.Content, error) {
	read := func() (manifest.Content, error) {
		content, err := manifest.ChildOf(x.index, d)
		return x.inside(d, content, err)
	}
	if !d.MediaType.IsIndex() {
		return read()
	}
	return x.read.Do(ctx, d.Digest, read)
}

// inside returns content, which x lists as d, with the depth that it has if it is an
// index. The arguments are what a function returned that read it.
func (x *nestedIndex) inside(d v1.Descriptor, content manifest.Content, err error) (manifest.Content, error) {
	idx, ok := content.(v1.ImageIndex)
	switch {
	case err != nil || !ok:
		return content, err
	case x.depth+1 == manifest.MaxDepth:
		return nil, fmt.Errorf("%s: %w", d.Digest, errTooDeep)
	}
	return &nestedIndex{index: idx, depth: x.depth + 1, read: x.read}, nil
}

// checkDepth returns an error if indexes in x are nested too deep. It skips those that
// this run has stored in r and those that cannot be read, which r may have. An index
// under an unknown media type is found when it is stored.
func (c *Client) checkDepth(ctx context.Context, r repository, x *nestedIndex, seen map[v1.Hash]bool) error {
	im, err := x.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range im.Manifests {
		if _, stored := c.session.exists.manifests.Get(r.at(d.Digest)); stored || seen[d.Digest] || !d.MediaType.IsIndex() {
			continue
		}
		seen[d.Digest] = true
		content, err := x.child(ctx, d)
		if errors.Is(err, errTooDeep) {
			return err
		}
		if nested, ok := content.(*nestedIndex); ok && err == nil {
			if err := c.checkDepth(ctx, r, nested, seen); err != nil {
				return err
			}
		}
	}
	return nil
}
