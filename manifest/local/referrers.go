package local

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/manifest"
)

// This file finds referrers in a layout or archive. There is no referrers API here: the
// list is made from the subject fields of the manifests in index.json.

// Referrers lists the entries of index.json that refer to subject, by the subject field
// of their manifests or by cosign's tags. ref is ignored, because a layout has one list
// for all images. It reads the manifest of each entry once.
func (l *ociLayout) Referrers(ctx context.Context, _ string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	im, err := l.index()
	if err != nil {
		return nil, err
	}
	list, err := referrersIn(ctx, &l.links, l, im, subject, cosign)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return list, nil
}

// Referrers lists the entries of index.json as that of a layout does.
func (a *ociArchive) Referrers(ctx context.Context, _ string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	list, err := referrersIn(ctx, &a.links, t, t.index, subject, cosign)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return list, nil
}

// links are the subjects of manifests by the digest of the manifest, so that an entry is
// never stale.
type links = once.Memo[v1.Hash, link]

// A link is the subject of a manifest.
type link struct {
	subject v1.Hash       // zero if the manifest has none
	own     v1.Descriptor // of the manifest, as a list of referrers has it
}

// linkOf returns the link of the manifest that d describes. The artifactType of the
// descriptor is that of the manifest or else the media type of its config
// (distribution-spec, "Listing Referrers").
func linkOf(ctx context.Context, s blobStore, d v1.Descriptor) (link, error) {
	raw, err := small(ctx, func() (io.ReadCloser, error) { return s.open(d) }, d)
	if err != nil {
		return link{}, err
	}
	found, err := manifest.MediaType(raw, d.MediaType)
	if err != nil {
		return link{}, fmt.Errorf("%s: %w", d.Digest, err)
	}
	var m struct {
		Subject      v1.Descriptor     `json:"subject"`
		ArtifactType string            `json:"artifactType"`
		Config       v1.Descriptor     `json:"config"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return link{}, mismatch("%s: %w", d.Digest, err)
	}
	own := v1.Descriptor{MediaType: found, Digest: d.Digest, Size: d.Size, Annotations: m.Annotations}
	own.ArtifactType = cmp.Or(m.ArtifactType, string(m.Config.MediaType))
	return link{m.Subject.Digest, own}, nil
}

// referrersIn lists the entries of im that refer to subject. A manifest with several names is
// listed once, but one with a tag of cosign for each tag.
func referrersIn(ctx context.Context, known *links, s blobStore, im *ocispec.Index, subject v1.Hash, cosign []string) ([]manifest.Referrer, error) {
	var list []manifest.Referrer
	seen := map[v1.Hash]bool{}
	for _, e := range im.Manifests {
		d, err := descriptor(e)
		if err != nil {
			return nil, err
		}
		if tag := tagOf(nameOf(e)); tag != "" && slices.ContainsFunc(cosign, func(suffix string) bool {
			return tag == manifest.ReferrersTag(subject)+"."+suffix
		}) {
			d.Annotations = nil // these are of the entry in index.json
			list = append(list, manifest.Referrer{Descriptor: d, Tag: tag})
			continue
		}
		is, err := known.Ensure(ctx, d.Digest, func() (link, error) { return linkOf(ctx, s, d) })
		if err != nil {
			return nil, err
		}
		if is.subject == subject && subject != (v1.Hash{}) && !seen[d.Digest] {
			seen[d.Digest] = true
			list = append(list, manifest.Referrer{Descriptor: is.own})
		}
	}
	return list, nil
}

// apart reports whether a reference is that of a referrer and not the name of an image:
// "@" and a digest, or a tag that is made from a digest.
func apart(ref string) bool {
	return strings.HasPrefix(ref, "@") || manifest.IsReferrersTag(tagOf(ref))
}

// principal leaves out referrers, unless there is nothing else. An entry with a name is
// an image unless the name is a referrers tag; only for unnamed ones the manifest is
// read. An entry that cannot be read stays, so that its error is reported when it is
// used.
func principal(ctx context.Context, s blobStore, entries []ocispec.Descriptor) []ocispec.Descriptor {
	rest := slices.DeleteFunc(slices.Clone(entries), func(e ocispec.Descriptor) bool {
		if name := nameOf(e); name != "" {
			return apart(name)
		}
		d, err := descriptor(e)
		if err != nil {
			return false
		}
		is, err := linkOf(ctx, s, d)
		return err == nil && is.subject != (v1.Hash{})
	})
	if len(rest) == 0 {
		return entries
	}
	return rest
}
