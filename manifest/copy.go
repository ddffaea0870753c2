package manifest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// A Selection is content that was chosen for a copy. Its descriptor is known, so that a
// caller can compare it with the target before anything is read.
type Selection struct {
	// Descriptor is that of the copy.
	Descriptor v1.Descriptor
	// Found is what the reference names. Its digest differs from that of Descriptor if
	// platforms are left out.
	Found v1.Descriptor
	// Absent are the wanted platforms that do not exist.
	Absent []ocispec.Platform
	// Open reads the content. Its children and layers are lazy and read under the context
	// of Select.
	Open func() (Content, error)
}

// Keep says which part of an index to copy. The zero value keeps all of it.
type Keep struct {
	// Platforms are the platforms whose images are kept, with the attestations that
	// describe them and the artifacts of the index. A platform without a version stands
	// for all its versions.
	Platforms []ocispec.Platform
	// Optional permits platforms to be missing as long as one exists.
	Optional bool
	// Log gets the warnings; nil discards them.
	Log *slog.Logger
}

// Select chooses what to copy of ref. Without platforms it costs one HEAD, and the copy
// has the same bytes. With platforms it reads the index. A selection that has all entries
// is the index itself. Otherwise it is a new index with another digest and the
// annotations of the first. A platform that does not exist is an [*AssemblyError].
func Select(ctx context.Context, src Source, ref string, keep Keep) (*Selection, error) {
	if len(keep.Platforms) == 0 {
		d, err := src.Resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		return &Selection{Descriptor: d, Found: d, Open: func() (Content, error) { return src.Get(ctx, ref) }}, nil
	}
	c, err := src.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	found, err := Describe(c)
	if err != nil {
		return nil, err
	}
	chosen, kept := c, c
	switch c := c.(type) {
	case v1.ImageIndex:
		chosen, kept, err = subset(ctx, c, keep)
	case v1.Image:
		err = only(c, ref, keep)
	}
	if err != nil {
		return nil, err
	}
	return selected(chosen, kept, found, keep.Platforms)
}

// selected describes kept, the part of found to copy. chosen has the same images, each
// with its platform.
func selected(chosen, kept Content, found v1.Descriptor, wanted []ocispec.Platform) (*Selection, error) {
	d, err := Describe(kept)
	if err != nil {
		return nil, err
	}
	absent, err := Absent(chosen, wanted)
	if err != nil {
		return nil, err
	}
	return &Selection{Descriptor: d, Found: found, Absent: absent, Open: func() (Content, error) { return kept, nil }}, nil
}

// subset selects the wanted platforms of an index. chosen has the platform of each image.
// kept is what to copy: idx itself if all its entries were chosen, since then nothing may
// change its digest.
func subset(ctx context.Context, idx v1.ImageIndex, keep Keep) (chosen, kept Content, err error) {
	a := Assembly{Base: idx, Select: keep.Platforms, Optional: keep.Optional, Log: keep.Log}
	made, err := a.Create(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	before, err := sortedDigests(idx)
	if err != nil {
		return nil, nil, err
	}
	after, err := sortedDigests(made)
	if err != nil {
		return nil, nil, err
	}
	if slices.Equal(before, after) {
		return made, idx, nil
	}
	return made, made, nil
}

// sortedDigests returns the sorted digests of an index's entries, for comparison.
func sortedDigests(idx v1.ImageIndex) ([]string, error) {
	im, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	list := make([]string, len(im.Manifests))
	for i, d := range im.Manifests {
		list[i] = d.Digest.String()
	}
	slices.Sort(list)
	return list, nil
}

// only refuses an image that is not for a wanted platform. An artifact has no platform
// and is kept.
func only(img v1.Image, ref string, keep Keep) error {
	entries, err := Identified(img)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	is := entries[0]
	switch {
	case is.Kind != KindImage:
		return nil
	case !is.Placed():
		return conflict("Platforms", "%s is an image without a platform in its config, but %s is required", ref, platform.Keys(keep.Platforms))
	}
	for _, want := range keep.Platforms {
		if len(platform.All(want, []ocispec.Platform{is.Platform})) > 0 && (keep.Optional || len(keep.Platforms) == 1) {
			return nil
		}
	}
	return invalid("", "%s is an image for %s, but %s is required", ref, platform.Key(is.Platform), platform.Keys(keep.Platforms))
}

// Absent lists the wanted platforms for which c has no image. It reads no image of an
// index; an entry that could be an image counts as one. For an artifact it returns none,
// since an artifact has no platform.
func Absent(c Content, wanted []ocispec.Platform) ([]ocispec.Platform, error) {
	var entries []Entry
	var err error
	if idx, ok := c.(v1.ImageIndex); ok {
		entries, err = Entries(idx)
	} else if entries, err = Identified(c); err == nil && entries[0].Kind == KindArtifact {
		return nil, nil // an artifact has no platform
	}
	if err != nil {
		return nil, err
	}
	var have, absent []ocispec.Platform
	for _, e := range entries {
		if e.Kind == KindImage || e.Kind == KindUnread {
			have = append(have, e.Platform)
		}
	}
	for _, want := range wanted {
		if len(platform.All(want, have)) == 0 {
			absent = append(absent, want)
		}
	}
	return absent, nil
}

// Copy makes dstRef name in dst what srcRef names in src: the same bytes, or with keep
// only the images for those platforms, each of which must exist. If dstRef has that
// digest already, nothing is written; without keep this costs one HEAD at each end. The
// result is the descriptor that dstRef names.
//
// Copy does not copy referrers. If the lookup of dstRef fails for another reason than
// that it does not exist, Copy fails and writes nothing.
func Copy(ctx context.Context, dst Sink, dstRef string, src Source, srcRef string, keep ...ocispec.Platform) (v1.Descriptor, error) {
	s, err := Select(ctx, src, srcRef, Keep{Platforms: keep})
	if err != nil {
		return v1.Descriptor{}, err
	}
	if target, ok := dst.(Source); ok {
		now, err := target.Resolve(ctx, dstRef)
		if err == nil && now.Digest == s.Descriptor.Digest {
			return now, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return v1.Descriptor{}, err
		}
	}
	c, err := s.Open()
	if err != nil {
		return v1.Descriptor{}, err
	}
	d, err := Describe(c)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return d, dst.Put(ctx, dstRef, c)
}
