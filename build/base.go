package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A baseImage is the image that the layers of a program are added to, for one platform.
// It is shared by concurrent goroutines and must not be changed after it is made:
// assemble and configure copy what they extend.
type baseImage struct {
	image       v1.Image        // nil: Static or Scratch
	descriptors []v1.Descriptor // of the layers, as in the manifest of the base
	layers      []v1.Layer      // lazy, one for each descriptor, in the same order
	config      v1.ConfigFile
	name        string  // the reference without its digest; "" for Static and Scratch
	digest      v1.Hash // of image, zero for Static and Scratch
	root        v1.Hash // of the index that image was chosen from, or of image itself
}

// A BaseError says why a base image cannot be used: it cannot be read, its content is
// invalid, or it has no image for a platform.
type BaseError struct {
	Ref string // as the Spec names it
	Err error
	Way string

	Missing []ocispec.Platform // platforms that it lacks, if that is what is wrong
}

func (e *BaseError) Error() string { return "base " + e.Ref + ": " + e.Err.Error() }
func (e *BaseError) Unwrap() error { return e.Err }

// Is reports whether target is the kind of the error: a base that does not exist or does
// not fit is a mistake in what was asked for, unless the registry failed.
func (e *BaseError) Is(target error) bool {
	return target == hint.Usage && (errors.Is(e.Err, manifest.ErrNotFound) || hint.KindOf(e.Err) != hint.Registry)
}

// Hint returns what the user can do.
func (e *BaseError) Hint() string {
	return cmp.Or(e.Way, hint.Of(e.Err))
}

// A bases reads the base images of one Spec. It reads each reference once, however many
// platforms use it, so all platforms see the same index even if a tag moves meanwhile.
type bases struct {
	source manifest.Source
	layers *layerfile.Writer

	got once.Memo[string, *candidates] // by reference, errors included
}

// platforms returns the platforms that [Spec.All] selects: those that both the base ref
// and the program support, sorted and unique. For Static and Scratch these are all linux
// platforms of the program. No common platform is a [*BaseError].
func (b *bases) platforms(ctx context.Context, ref string, m maker) ([]ocispec.Platform, error) {
	all, err := m.platforms(ctx, nil)
	if err != nil {
		return nil, err
	}
	if ref == Static || ref == Scratch {
		return slices.DeleteFunc(all, func(p ocispec.Platform) bool { return p.OS != "linux" }), nil
	}
	c, err := b.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	have, err := m.platforms(ctx, platform.Plain(c.platforms()))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(have, platform.Compare)
	have = slices.CompactFunc(have, func(a, b ocispec.Platform) bool { return platform.Compare(a, b) == 0 })
	if len(have) == 0 {
		return nil, &BaseError{Ref: ref, Err: errors.New("has no platform that Go supports")}
	}
	return have, nil
}

// versions returns s's platforms with one platform for each version of Windows that a
// base has. Windows runs only images of its version, and a runtime chooses that entry of
// an index (containerd, platforms/defaults_windows.go). An image for one version alone
// could not run on nodes with another one.
//
// A platform with a version is kept, as are those of other operating systems. A platform
// that the base does not have is also kept; choosing its image reports the error.
func (b *bases) versions(ctx context.Context, s Spec) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, p := range s.Platforms {
		ref := s.base(p)
		if p.OS != "windows" || p.OSVersion != "" || s.Newest || ref == Static || ref == Scratch {
			list = append(list, p)
			continue
		}
		c, err := b.get(ctx, ref)
		if err != nil {
			return nil, err
		}
		found := false
		// Choose says whether an image for h can be the base for p.
		for _, h := range c.platforms() {
			if _, runs := platform.Choose(p, []ocispec.Platform{h}); !runs {
				continue
			}
			one := p
			one.OSVersion, found = h.OSVersion, true
			list = append(list, one)
		}
		if !found {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, platform.Compare)
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return platform.Compare(a, b) == 0 }), nil
}

// all returns the base images of s's platforms, in the order of the platforms. It reads
// the references at the same time and joins all errors, so that the user sees all missing
// platforms and unreadable bases at once.
func (b *bases) all(ctx context.Context, s Spec) ([]baseImage, error) {
	wanted := map[string][]int{} // indexes into s.Platforms, by reference
	for i, p := range s.Platforms {
		wanted[s.base(p)] = append(wanted[s.base(p)], i)
	}
	found := make([]baseImage, len(s.Platforms))
	refs := slices.Sorted(maps.Keys(wanted))
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	// The references are sorted, so that the joined errors have the same order in every
	// run.
	for i, ref := range refs {
		wg.Go(func() {
			errs[i] = guard.Do(func() error { return b.chooseImages(ctx, ref, s.Platforms, wanted[ref], found) })
		})
	}
	wg.Wait()
	return found, errors.Join(errs...)
}

// chooseImages sets found[i] for each index i in at, all from the base ref. Concurrent
// calls share found; each call writes only its own elements, so no lock is needed.
func (b *bases) chooseImages(ctx context.Context, ref string, ps []ocispec.Platform, at []int, found []baseImage) error {
	switch ref {
	case Scratch:
		for _, i := range at {
			found[i] = baseImage{config: v1.ConfigFile{RootFS: v1.RootFS{Type: "layers"}}}
		}
		return nil
	case Static:
		return b.static(ps, at, found)
	}
	c, err := b.get(ctx, ref)
	if err != nil {
		return err
	}
	have := c.platforms()
	var missing []ocispec.Platform
	errs := make([]error, len(at))
	var wg sync.WaitGroup
	// One image of the index can serve several platforms, such as arm/v7 and arm/v6.
	for n, i := range at {
		position, ok := platform.Choose(ps[i], have)
		if !ok {
			missing = append(missing, ps[i])
			continue
		}
		wg.Go(func() {
			errs[n] = guard.Do(func() (err error) { found[i], err = c.baseImage(position, ps[i]); return err })
		})
	}
	wg.Wait()
	if len(missing) > 0 {
		errs = append(errs, b.lacks(ctx, c, missing, have))
	}
	return errors.Join(errs...)
}

// static is chooseImages for the built-in static base, which supports linux only.
func (b *bases) static(ps []ocispec.Platform, at []int, found []baseImage) error {
	var missing []ocispec.Platform
	f, err := static(b.layers)
	if err != nil {
		return &BaseError{Ref: Static, Err: err}
	}
	for _, i := range at {
		if ps[i].OS != "linux" {
			missing = append(missing, ps[i])
		}
		found[i] = f
	}
	if len(missing) > 0 {
		return &BaseError{
			Ref: Static, Err: fmt.Errorf("does not support %s, only linux", platform.Keys(missing)),
			Missing: missing,
		}
	}
	return nil
}

// lacks returns the error for platforms that a base does not have. It lists the platforms
// that the base has. If ref is a single image, the hint names the index of this image, if
// it can be found.
func (b *bases) lacks(ctx context.Context, c *candidates, missing, have []ocispec.Platform) error {
	slices.SortFunc(have, platform.Compare)
	e := &BaseError{Ref: c.ref, Err: fmt.Errorf("has no image for %s, only for %s", platform.Keys(missing), platform.Keys(have)), Missing: missing}
	if c.index {
		e.Way = "omit these platforms, or set another base image for them"
		return e
	}
	e.Way = "this is an image of one platform; use its index"
	if index, ok := b.indexOf(ctx, c); ok {
		e.Way = "this is an image of one platform; its index is " + index
	}
	return e
}

// indexOf looks for the index that a single image belongs to. A reference by digest often
// is the digest of one platform, copied from an index. The index is looked up by the
// reference without the digest, that is by its tag or by latest, and counts only if it
// lists the digest. After a failure the error has no such hint.
func (b *bases) indexOf(ctx context.Context, c *candidates) (string, bool) {
	tag, pinned := withoutDigest(c.ref)
	if !pinned {
		return "", false
	}
	other, err := b.source.Get(ctx, tag)
	if err != nil {
		return "", false
	}
	index, ok := other.(v1.ImageIndex)
	if !ok {
		return "", false
	}
	entries, err := manifest.Entries(index)
	if err != nil {
		return "", false
	}
	digest, err := index.Digest()
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		if e.Descriptor.Digest == c.root {
			return tag + "@" + digest.String(), true
		}
	}
	return "", false
}

// withoutDigest removes the digest from a reference and reports whether it had one.
func withoutDigest(ref string) (string, bool) {
	name, _, ok := strings.Cut(ref, "@")
	return name, ok
}
