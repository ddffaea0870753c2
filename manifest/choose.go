package manifest

import (
	"context"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// chooses reports whether all that is asked is to choose among images, so that one
// that nobody said the platform of need not be read as long as others will do.
func (a *Assembly) chooses() bool {
	return len(a.Select) > 0 && len(a.Remove) == 0 && (a.Base == nil || len(a.Items) == 0)
}

// selected leaves the platforms that are wanted, and of the base its artifacts. Images
// that their indexes say no platform of are read only if what is wanted is not among
// the others, or tells whether the base stays whole.
func (a *Assembly) selected(ctx context.Context, parts []*part) ([]*part, error) {
	if len(a.Select) == 0 {
		return parts, nil
	}
	_, missing, _ := a.choose(parts)
	if len(missing) > 0 {
		var err error
		if parts, err = a.settleAll(ctx, parts); err != nil {
			return nil, err
		}
	}
	kept, missing, have := a.choose(parts)
	if len(missing) > 0 && (!a.Optional || len(missing) == len(a.Select)) {
		return nil, unfit("", "no %s among the images; there is %s", strings.Join(missing, ", "), list(have))
	}
	return a.told(ctx, parts, kept), nil
}

// told adds to what was kept the artifacts of the base that only reading tells from
// images. They are read where nothing else is left out, so that a base that has what
// is wanted stays whole; where that does not help, and elsewhere, they are left out.
func (a *Assembly) told(ctx context.Context, parts, kept []*part) []*part {
	var silent []v1.Hash
	for _, p := range parts {
		if p.base && p.unread != nil && !p.artifact() {
			silent = append(silent, p.Descriptor.Digest)
		}
	}
	if len(silent) > 0 && len(kept)+len(silent) == len(parts) {
		if settled, err := a.settleAll(ctx, parts); err == nil {
			if all, _, _ := a.choose(settled); unique(all) == nil {
				return all
			}
		}
	}
	for _, digest := range silent {
		a.Log.WarnContext(ctx, "left out, its index says neither a platform nor which artifact it is", "digest", digest.String())
	}
	return kept
}

// artifact reports whether p is known to run on nothing: its entry says what else it
// is, or it was read and has no platform. Some write the type of an image's config
// where an artifact's belongs.
func (p *part) artifact() bool {
	kind := types.MediaType(p.Descriptor.ArtifactType)
	return !p.runs() && !IsAttestation(p.Descriptor) && (p.unread == nil || kind != "" && !kind.IsConfig())
}

// choose gives the parts that are wanted with all attestations and the artifacts of
// the base, the platforms that are missing, and those that are there.
func (a *Assembly) choose(parts []*part) (kept []*part, missing, have []string) {
	found := make([]bool, len(a.Select))
	for _, p := range parts {
		keep := IsAttestation(p.Descriptor) || p.base && p.artifact()
		if p.runs() {
			have = append(have, p.key())
			for i, want := range a.Select {
				if covers(want, p.Descriptor.Platform) {
					keep, found[i] = true, true
				}
			}
		}
		if keep {
			kept = append(kept, p)
		}
	}
	for i, want := range a.Select {
		if !found[i] {
			missing = append(missing, platform.Key(want))
		}
	}
	return kept, missing, have
}

// covers reports whether what is wanted has p among it.
func covers(want ocispec.Platform, p *v1.Platform) bool {
	is := platform.FromV1(p)
	if want.OSVersion == "" {
		is.OSVersion = ""
	}
	return platform.Key(want) == platform.Key(is)
}
