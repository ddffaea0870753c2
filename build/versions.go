package build

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// versions returns s's platforms with the versions of Windows that their bases
// have, one platform for each. Windows runs images of its own version, and a
// runtime picks that child of an index (containerd, platforms/defaults_windows.go);
// an image for one version alone would leave the others' nodes without any. A
// platform that names a version stays as it is, as do those of other systems.
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
		for _, h := range c.platforms() {
			if _, runs := platform.Choose(p, []ocispec.Platform{h}); !runs {
				continue
			}
			one := p
			one.OSVersion, found = h.OSVersion, true
			list = append(list, one)
		}
		if !found { // no version to tell apart, or nothing that fits, which is told later
			list = append(list, p)
		}
	}
	slices.SortFunc(list, platform.Compare)
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return platform.Compare(a, b) == 0 }), nil
}
