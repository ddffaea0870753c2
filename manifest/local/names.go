package local

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names lists the names that images have in the layout, sorted. What refers to
// others, under cosign's tags, is not among them.
func (l *Layout) Names(context.Context) ([]string, error) {
	im, err := l.index()
	if err != nil {
		return nil, err
	}
	return imageNames(im), nil
}

// Names lists the names that images have in the archive, as those of a [Layout].
func (a *Archive) Names(ctx context.Context) ([]string, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	return imageNames(t.index), nil
}

func imageNames(im *ocispec.Index) []string {
	var list []string
	for _, e := range im.Manifests {
		if name := nameOf(e); name != "" && !apart(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
