package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

// maxReferrers bounds what is taken of one list.
const maxReferrers = 1000

// Referrers lists what refers to subject in the repository of ref. Of the API of
// OCI 1.1 only the first page is read. Where a registry does not have it, which
// is asked once a run, the tag sha256-… is read instead; a registry that resolves
// that to the subject itself, or to anything but an index, has no referrers.
func (c *Client) Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	r, err := c.parse(ref)
	if err != nil {
		return nil, err
	}
	list, err := c.referrers(ctx, r.repository, subject)
	if err != nil {
		return nil, err
	}
	for _, suffix := range cosign {
		tag := tagOf(subject) + "." + suffix
		d, err := c.head(ctx, reference{repository: r.repository, tag: tag})
		switch {
		case err == nil:
			list = append(list, manifest.Referrer{Descriptor: d, Tag: tag})
		case !nowhere(err):
			return nil, err
		}
	}
	return list, nil
}

// tagOf is the tag that stands for the referrers of h (distribution-spec,
// "Referrers Tag Schema").
func tagOf(h v1.Hash) string {
	tag := h.Algorithm + "-" + h.Hex
	return tag[:min(len(tag), 32+1+64)]
}

// nowhere reports whether err means that there is no such manifest, in a
// repository that could be read a moment ago: some answer 403 for that.
func nowhere(err error) bool {
	e := asError(err)
	return e != nil && (e.missing || e.Status == http.StatusForbidden && !e.throttled)
}

func (c *Client) referrers(ctx context.Context, r repository, subject v1.Hash) ([]manifest.Referrer, error) {
	if !c.known.flagged(&c.known.mute, r.host.name) {
		list, err := c.askReferrers(ctx, r, subject)
		if err == nil || !unsupported(err) {
			return list, err
		}
		c.known.flag(&c.known.mute, r.host.name)
	}
	content, err := c.get(ctx, reference{repository: r, tag: tagOf(subject)}, v1.Descriptor{})
	if nowhere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	idx, ok := content.(*index)
	if !ok || idx.digest == subject {
		return nil, nil
	}
	list := slices.DeleteFunc(referring(idx.parsed.Manifests), func(d manifest.Referrer) bool {
		return d.Platform != nil // the children of an ordinary index
	})
	return list, nil
}

// unsupported reports whether err is the answer of a registry without the API, and
// none that may be another one in a moment, or for another person.
func unsupported(err error) bool {
	e := asError(err)
	return e != nil && !errors.Is(err, manifest.ErrMismatch) && e.Status != 0 && e.Status != http.StatusUnauthorized && !e.throttled && !temporary(e.Status)
}

// askReferrers asks the API.
func (c *Client) askReferrers(ctx context.Context, r repository, subject v1.Hash) ([]manifest.Referrer, error) {
	k := r.call(http.MethodGet, "referrers/"+subject.String())
	k.ref, k.want = subject.String(), []int{http.StatusOK}
	k.header.Set("Accept", string(types.OCIImageIndex))
	tries := c.wire.retries(r.host)
	for {
		raw, header, err := c.readAll(ctx, r, k)
		if err == nil {
			return parseReferrers(r.by(subject), raw, header)
		}
		if err := tries.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

func parseReferrers(of reference, raw []byte, header http.Header) ([]manifest.Referrer, error) {
	var im v1.IndexManifest
	if !strings.Contains(header.Get("Content-Type"), "json") {
		return nil, mismatch("%s: its referrers come as %s", of, clean(header.Get("Content-Type")))
	}
	if err := json.Unmarshal(raw, &im); err != nil {
		return nil, mismatch("%s: not a list of referrers: %w", of, err)
	}
	return referring(im.Manifests), nil
}

func referring(list []v1.Descriptor) []manifest.Referrer {
	list = slices.DeleteFunc(list, func(d v1.Descriptor) bool { return d.Digest == (v1.Hash{}) })
	out := make([]manifest.Referrer, 0, min(len(list), maxReferrers))
	for _, d := range list[:min(len(list), maxReferrers)] {
		out = append(out, manifest.Referrer{Descriptor: d})
	}
	return out
}
