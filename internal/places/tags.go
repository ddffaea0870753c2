package places

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/manifest"
)

// ValidTags returns the listed tags that can be pulled, and warns of the others: old
// versions of Harbor also list digests.
func ValidTags(ctx context.Context, log *slog.Logger, repo string, listed []string) []string {
	return slices.DeleteFunc(slices.Clone(listed), func(tag string) bool {
		invalid := !IsTag(tag)
		if invalid {
			log.WarnContext(ctx, "ignored an invalid tag that the registry lists", "repository", repo, "tag", tag)
		}
		return invalid
	})
}

// TagsOf returns the tags of a repository in a registry that name the image, and those of
// indexes around it. It costs one HEAD for each tag, and a GET for each index.
func (s Store) TagsOf(ctx context.Context, log *slog.Logger, image imageref.Parts) (tags, around []string, err error) {
	all, err := s.Registry.Tags(ctx, image.Repository)
	if err != nil {
		return nil, nil, err
	}
	all = ValidTags(ctx, log, image.Repository, all)
	same, within := make([]bool, len(all)), make([]bool, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, tag := range all {
		group.Go(func() error {
			ref := imageref.Parts{Repository: image.Repository, Tag: tag}.String()
			d, err := s.Registry.Resolve(ctx, ref)
			// A registry may list a tag whose manifest was deleted.
			if errors.Is(err, manifest.ErrNotFound) {
				return nil
			}
			if same[i] = err == nil && d.Digest.String() == image.Digest; err != nil || same[i] || !d.MediaType.IsIndex() {
				return err
			}
			c, err := s.Registry.Get(ctx, ref)
			if err != nil {
				return err
			}
			return manifest.Walk(c, nil, func(n manifest.Node) error {
				within[i] = within[i] || n.Descriptor.Digest.String() == image.Digest
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i, tag := range all {
		switch {
		case same[i]:
			tags = append(tags, tag)
		case within[i]:
			around = append(around, tag)
		}
	}
	return tags, around, nil
}
