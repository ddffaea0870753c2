package manifest

import (
	"context"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// This file applies Assembly.Select. The rule behind it: an entry is read only if the
// answer could change the result, since each read costs one or two requests to a registry
// that may count them.

// chooses reports whether the options only select among images. Then an entry whose
// platform is unknown need not be read as long as other entries match: it saves a request
// for each.
func (a *Assembly) chooses() bool {
	return len(a.Select) > 0 && len(a.Remove) == 0 && (a.Base == nil || len(a.Items) == 0)
}

// selected keeps the wanted platforms, and of the base all entries that are not images.
// An entry without a platform is read only if a wanted platform is missing among the
// other entries, or if reading decides whether the base stays complete. Several entries
// of one platform are read if that platform is wanted, since one of them may be an
// artifact.
func (a *Assembly) selected(ctx context.Context, parts []*part) ([]*part, error) {
	if len(a.Select) == 0 {
		return parts, nil
	}
	parts, err := a.checkSelected(ctx, parts)
	if err != nil {
		return nil, err
	}
	_, missing := a.matchSelected(parts)
	if len(missing) > 0 {
		if parts, err = a.checkAll(ctx, parts); err != nil {
			return nil, err
		}
	}
	kept, missing := a.matchSelected(parts)
	if len(missing) > 0 && (!a.Optional || len(missing) == len(a.Select)) {
		return nil, conflict("Select", "no image for %s, only for %s", strings.Join(missing, ", "), list(keysOf(parts)))
	}
	return a.dropArtifacts(ctx, parts, kept), nil
}

// checkSelected reads the unread entries of wanted platforms, and those of the base that
// have a platform. Artifacts among them stay in the base and are dropped elsewhere.
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

// dropArtifacts decides about base entries without a platform, which are artifacts or
// images and cannot be told apart unread. If they are all that the selection would leave
// out, they are read, so that a base that has only wanted platforms stays complete and
// keeps its digest. If that fails, or if other entries are left out, these entries are
// dropped with a warning.
func (a *Assembly) dropArtifacts(ctx context.Context, parts, kept []*part) []*part {
	var silent []*part
	for _, p := range parts {
		if p.base && !p.entry.Placed() && (p.entry.Kind == KindUnread || p.entry.Kind == KindImage) {
			silent = append(silent, p)
		}
	}
	if len(silent) > 0 && len(kept)+len(silent) == len(parts) {
		if settled, err := a.checkAll(ctx, parts); err == nil {
			if all, _ := a.matchSelected(settled); unique(all) == nil {
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

// matchSelected returns the parts to keep: images of wanted platforms, all attestations
// (those without a subject are dropped later), and base entries that are not images.
// missing has the wanted platforms without an image.
func (a *Assembly) matchSelected(parts []*part) (kept []*part, missing []string) {
	images, of := imagesOf(parts)
	wanted := map[*part]bool{}
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
	return kept, missing
}
