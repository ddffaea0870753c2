// Package baseimage gets the base images of a build: it reads a reference once and chooses
// its image for each platform, and it makes the bases that are built in.
//
// It reads manifests and configs, and no layers. It knows platforms and no Spec: the caller
// says which reference is the base of a platform.
package baseimage

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

// The base images that are built in.
const (
	Static  = "static"  // CA certificates, time zones, users and /tmp; linux only
	Scratch = "scratch" // no files
)

// An Image is the image that the layers of a program are added to, for one platform. It is
// shared by concurrent goroutines and must not be changed: its users copy what they extend.
type Image struct {
	Image       v1.Image        // nil: Static or Scratch
	Descriptors []v1.Descriptor // of the layers, as in the manifest of the base
	Layers      []v1.Layer      // lazy, one for each descriptor, in the same order
	Config      v1.ConfigFile
	Name        string  // the reference without its digest; "" for Static and Scratch
	Digest      v1.Hash // of Image, zero for Static and Scratch
	Root        v1.Hash // of the index that Image was chosen from, or of Image itself
}

// An Error says why a base image cannot be used: it cannot be read, its content is
// invalid, or it has no image for a platform.
type Error struct {
	Ref string // as the Spec names it
	Err error
	Way string

	Missing []ocispec.Platform // platforms that it lacks, if that is what is wrong
}

func (e *Error) Error() string { return "base " + e.Ref + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the kind of the error: a base that does not exist or does
// not fit is a mistake in what was asked for, unless the registry failed.
func (e *Error) Is(target error) bool {
	return target == hint.Usage && (errors.Is(e.Err, manifest.ErrNotFound) || hint.KindOf(e.Err) != hint.Registry)
}

// Hint returns what the user can do.
func (e *Error) Hint() string {
	return cmp.Or(e.Way, hint.Of(e.Err))
}

// A Reader reads the base images of one build. It reads each reference once, however many
// platforms use it, so all platforms see the same index even if a tag moves meanwhile. It
// is safe for concurrent use.
type Reader struct {
	Source manifest.Source   // nil: there are only Static and Scratch
	Layers *layerfile.Writer // makes the layer of Static

	got once.Memo[string, *candidates] // by reference, errors included
}

// Platforms returns the platforms that both the base ref and the program support, sorted and
// unique. For Static and Scratch these are all linux platforms of the program. No common
// platform is an [*Error], which names the program by what it is.
//
// supported returns those platforms of a list that the program supports, or all of them for
// nil.
func (r *Reader) Platforms(ctx context.Context, ref, program string, supported func(context.Context, []ocispec.Platform) ([]ocispec.Platform, error)) ([]ocispec.Platform, error) {
	all, err := supported(ctx, nil)
	if err != nil {
		return nil, err
	}
	if ref == Static || ref == Scratch {
		return slices.DeleteFunc(all, func(p ocispec.Platform) bool { return p.OS != "linux" }), nil
	}
	c, err := r.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	have, err := supported(ctx, platform.Plain(c.platforms()))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(have, platform.Compare)
	have = slices.CompactFunc(have, func(a, b ocispec.Platform) bool { return platform.Compare(a, b) == 0 })
	if len(have) == 0 {
		return nil, &Error{Ref: ref, Err: fmt.Errorf("has no platform that %s supports", program)}
	}
	return have, nil
}

// Versions returns the platforms of a list with one platform for each version of Windows that a
// base has. Windows runs only images of its version, and a runtime chooses that entry of
// an index (containerd, platforms/defaults_windows.go). An image for one version alone
// could not run on nodes with another one.
//
// A platform with a version is kept, as are those of other operating systems. A platform
// that the base does not have is also kept; choosing its image reports the error.
func (r *Reader) Versions(ctx context.Context, ps []ocispec.Platform, refOf func(ocispec.Platform) string) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, p := range ps {
		ref := refOf(p)
		if p.OS != "windows" || p.OSVersion != "" || ref == Static || ref == Scratch {
			list = append(list, p)
			continue
		}
		c, err := r.get(ctx, ref)
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

// Images returns the base images of platforms, in the order of the platforms. It reads
// the references at the same time and joins all errors, so that the user sees all missing
// platforms and unreadable bases at once.
func (r *Reader) Images(ctx context.Context, ps []ocispec.Platform, refOf func(ocispec.Platform) string) ([]Image, error) {
	wanted := map[string][]int{} // indexes into ps, by reference
	for i, p := range ps {
		wanted[refOf(p)] = append(wanted[refOf(p)], i)
	}
	found := make([]Image, len(ps))
	refs := slices.Sorted(maps.Keys(wanted))
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	// The references are sorted, so that the joined errors have the same order in every
	// run.
	for i, ref := range refs {
		wg.Go(func() {
			errs[i] = guard.Do(func() error { return r.chooseImages(ctx, ref, ps, wanted[ref], found) })
		})
	}
	wg.Wait()
	return found, errors.Join(errs...)
}

// chooseImages sets found[i] for each index i in at, all from the base ref. Concurrent
// calls share found; each call writes only its own elements, so no lock is needed.
func (r *Reader) chooseImages(ctx context.Context, ref string, ps []ocispec.Platform, at []int, found []Image) error {
	switch ref {
	case Scratch:
		for _, i := range at {
			found[i] = Image{Config: v1.ConfigFile{RootFS: v1.RootFS{Type: "layers"}}}
		}
		return nil
	case Static:
		return r.static(ps, at, found)
	}
	c, err := r.get(ctx, ref)
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
			errs[n] = guard.Do(func() (err error) { found[i], err = c.image(position, ps[i]); return err })
		})
	}
	wg.Wait()
	if len(missing) > 0 {
		errs = append(errs, r.lacks(ctx, c, missing, have))
	}
	return errors.Join(errs...)
}

// static is chooseImages for the built-in static base, which supports linux only.
func (r *Reader) static(ps []ocispec.Platform, at []int, found []Image) error {
	var missing []ocispec.Platform
	f, err := static(r.Layers)
	if err != nil {
		return &Error{Ref: Static, Err: err}
	}
	for _, i := range at {
		if ps[i].OS != "linux" {
			missing = append(missing, ps[i])
		}
		found[i] = f
	}
	if len(missing) > 0 {
		return &Error{
			Ref: Static, Err: fmt.Errorf("does not support %s, only linux", platform.Keys(missing)),
			Missing: missing,
		}
	}
	return nil
}

// lacks returns the error for platforms that a base does not have. It lists the platforms
// that the base has. If ref is a single image, the hint names the index of this image, if
// it can be found.
func (r *Reader) lacks(ctx context.Context, c *candidates, missing, have []ocispec.Platform) error {
	slices.SortFunc(have, platform.Compare)
	e := &Error{Ref: c.ref, Err: fmt.Errorf("has no image for %s, only for %s", platform.Keys(missing), platform.Keys(have)), Missing: missing}
	if c.index {
		e.Way = "omit these platforms, or set another base image for them"
		return e
	}
	e.Way = "this is an image of one platform; use its index"
	if index, ok := r.indexOf(ctx, c); ok {
		e.Way = "this is an image of one platform; its index is " + index
	}
	return e
}

// indexOf looks for the index that a single image belongs to. A reference by digest often
// is the digest of one platform, copied from an index. The index is looked up by the
// reference without the digest, that is by its tag or by latest, and counts only if it
// lists the digest. After a failure the error has no such hint.
func (r *Reader) indexOf(ctx context.Context, c *candidates) (string, bool) {
	tag, pinned := withoutDigest(c.ref)
	if !pinned {
		return "", false
	}
	other, err := r.Source.Get(ctx, tag)
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
