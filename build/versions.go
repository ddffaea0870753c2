package build

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

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
