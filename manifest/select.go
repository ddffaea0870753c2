package manifest

import (
	"context"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// chooses reports whether all that is asked is to choose among images, so that one
// that nobody said the platform of need not be read as long as others will do.
func (a *Assembly) chooses() bool {
	return len(a.Select) > 0 && len(a.Remove) == 0 && (a.Base == nil || len(a.Items) == 0)
}

// selected leaves the platforms that are wanted, and of the base what is not an image.
// Images that their indexes say no platform of are read only if what is wanted is not
// among the others, or tells whether the base stays whole; doubles are read if they are
// wanted.
func (a *Assembly) selected(ctx context.Context, parts []*part) ([]*part, error) {
	if len(a.Select) == 0 {
		return parts, nil
	}
	parts, err := a.checkSelected(ctx, parts)
	if err != nil {
		return nil, err
	}
	_, missing, _ := a.matchSelected(parts)
	if len(missing) > 0 {
		if parts, err = a.checkAll(ctx, parts); err != nil {
			return nil, err
		}
	}
	kept, missing, have := a.matchSelected(parts)
	if len(missing) > 0 && (!a.Optional || len(missing) == len(a.Select)) {
		return nil, invalid("", "no image for %s, only for %s", strings.Join(missing, ", "), list(have))
	}
	return a.dropArtifacts(ctx, parts, kept), nil
}

// checkSelected reads the doubles of the platforms that are wanted, and all of the base,
// in which artifacts stay.
func (a *Assembly) checkSelected(ctx context.Context, parts []*part) ([]*part, error) {
	var doubles []*part
	for _, p := range parts {
		wanted := slices.ContainsFunc(a.Select, func(want ocispec.Platform) bool {
			return len(platform.All(want, []ocispec.Platform{p.entry.Platform})) > 0
		})
		if p.entry.Kind == KindUnread && (wanted || p.base && p.entry.Placed()) {
			doubles = append(doubles, p)
		}
	}
	_, err := a.checkAll(ctx, doubles)
	return slices.DeleteFunc(parts, func(p *part) bool { return !p.base && p.entry.Kind == KindArtifact }), err
}

// dropArtifacts adds to what was kept the artifacts of the base that only reading tells from
// images. They are read where nothing else is left out, so that a base that has what
// is wanted stays whole; where that does not help, and elsewhere, they are left out.
func (a *Assembly) dropArtifacts(ctx context.Context, parts, kept []*part) []*part {
	var silent []*part
	for _, p := range parts {
		if p.base && !p.entry.Placed() && (p.entry.Kind == KindUnread || p.entry.Kind == KindImage) {
			silent = append(silent, p)
		}
	}
	if len(silent) > 0 && len(kept)+len(silent) == len(parts) {
		if settled, err := a.checkAll(ctx, parts); err == nil {
			if all, _, _ := a.matchSelected(settled); unique(all) == nil {
				kept = all
			}
		}
	}
	for _, p := range silent {
		if !p.entry.Placed() && !slices.Contains(kept, p) {
			a.Log.WarnContext(ctx, "skipped an entry: the index gives neither its platform nor its artifact type", "digest", p.Descriptor.Digest.String())
		}
	}
	return kept
}

// matchSelected gives the parts that are wanted with all attestations and what is not an image
// in the base, the platforms that are missing, and those that are there.
func (a *Assembly) matchSelected(parts []*part) (kept []*part, missing, have []string) {
	var images []*part
	var of []ocispec.Platform
	wanted := map[*part]bool{}
	for _, p := range parts {
		if p.runs() {
			images, of, have = append(images, p), append(of, p.entry.Platform), append(have, p.key())
		}
	}
	for _, want := range a.Select {
		found := platform.All(want, of)
		for _, at := range found {
			wanted[images[at]] = true
		}
		if len(found) == 0 {
			missing = append(missing, platform.Key(want))
		}
	}
	for _, p := range parts {
		if wanted[p] || p.attests() || p.base && (p.entry.Kind == KindArtifact || p.entry.Kind == KindUnknown) {
			kept = append(kept, p)
		}
	}
	return kept, missing, have
}
