package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// maxReferrers bounds the referrers of one subject that are read.
const maxReferrers = 10_000

// maxOwnTypes bounds the referrers of one subject that are read to find their own type.
const maxOwnTypes = 128

// Referrers lists what refers to subject in the repository of ref, with all pages of the
// referrers API (distribution-spec, "Listing Referrers"). If the registry does not have
// the API, it reads the index under the referrers tag sha256-…; a tag that names the
// subject itself or anything but an index lists nothing. Whether there is an API is asked
// once for each registry in a run, or for each repository if the answer may be about that
// repository only.
//
// An entry with the media type of the empty config, among the first 128, is read to find its own
// artifact type.
// For each suffix in cosign the tag sha256-….SUFFIX is added if it exists; older
// signatures are stored so. A subject that does not exist has no referrers.
func (c *Client) Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	r, err := c.parse(ref)
	if err != nil {
		return nil, err
	}
	list, err := c.referrers(ctx, r.repository, subject)
	if err != nil {
		return nil, err
	}
	for i := range list[:min(len(list), maxOwnTypes)] {
		if list[i].ArtifactType == emptyConfig {
			if err := c.ownType(ctx, r.repository, &list[i].Descriptor); err != nil {
				return nil, err
			}
		}
	}
	for _, suffix := range cosign {
		tag := manifest.ReferrersTag(subject) + "." + suffix
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

// emptyConfig is the media type of an empty config (image-spec, manifest.md, "Guidance
// for an Empty Descriptor").
const emptyConfig = "application/vnd.oci.empty.v1+json"

// ownType sets the artifact type of d from the artifact itself: some registries list the
// type of its config instead.
func (c *Client) ownType(ctx context.Context, r repository, d *v1.Descriptor) error {
	content, err := c.get(ctx, r.by(d.Digest), v1.Descriptor{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType})
	if err != nil {
		return err
	}
	raw, err := content.RawManifest()
	if err != nil {
		return err
	}
	var own struct {
		ArtifactType string `json:"artifactType"`
	}
	if err := json.Unmarshal(raw, &own); err != nil {
		return mismatch("%s: %w", r.by(d.Digest), err)
	}
	if own.ArtifactType != "" {
		d.ArtifactType = own.ArtifactType
	}
	return nil
}

// nowhere reports whether err means that a tag does not exist in a repository that could
// be read just before. Some registries answer 403 for a missing tag.
func nowhere(err error) bool {
	e := transport.As(err)
	return e != nil && (missing(err) || e.Status == http.StatusForbidden && !transport.Throttled(err))
}

// referrers lists referrers by the API, or by the tag if the registry lacks the API.
func (c *Client) referrers(ctx context.Context, r repository, subject v1.Hash) ([]manifest.Referrer, error) {
	if list, ok, err := c.byAPI(ctx, r, subject); ok || err != nil {
		return list, err
	}
	now, err := c.listAt(ctx, reference{repository: r, tag: manifest.ReferrersTag(subject)}, subject)
	return referrersOf(now.Manifests), err
}

// byAPI lists referrers by the API. ok is false if the registry does not have the API,
// which is remembered.
func (c *Client) byAPI(ctx context.Context, r repository, subject v1.Hash) (list []manifest.Referrer, ok bool, err error) {
	if has, known := c.session.hosts.api(r); known && !has {
		return nil, false, nil
	}
	list, err = c.askReferrers(ctx, r, subject)
	switch {
	case err == nil:
		c.session.hosts.hasAPI(r)
		return list, true, nil
	case unsupported(err):
		c.session.hosts.lacksAPI(r, unheardOf(err))
		return nil, false, nil
	}
	return nil, false, err
}

// unsupported reports whether err is the answer of a registry without the API. Answers
// that may change in a moment or with other credentials do not count, since they would
// make the client write a tag that nothing reads.
func unsupported(err error) bool {
	e := transport.As(err)
	return e != nil && !errors.Is(err, manifest.ErrMismatch) && e.Status != 0 && e.Status != http.StatusUnauthorized && !transport.Throttled(err) && !transport.Temporary(e.Status)
}

// unheardOf reports whether err, which is unsupported, applies to all repositories of the
// host. It does not if the reason may be the name of the repository or the right to read
// it.
func unheardOf(err error) bool {
	e := transport.As(err)
	switch e.Status {
	case http.StatusNotFound:
		return !transport.HasCode(err, "NAME_UNKNOWN")
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// askReferrers reads all pages of the API.
func (c *Client) askReferrers(ctx context.Context, r repository, subject v1.Hash) ([]manifest.Referrer, error) {
	var all []manifest.Referrer
	var query url.Values
	pages := pager{what: r.by(subject).String() + ": referrers"}
	for len(all) <= maxReferrers {
		if err := pages.ask(query); err != nil {
			return nil, err
		}
		req := r.request(http.MethodGet, "referrers/"+subject.String())
		req.Reference, req.Query, req.Want = subject.String(), query, []int{http.StatusOK}
		req.Header.Set("Accept", string(types.OCIImageIndex))
		var page []manifest.Referrer
		var header http.Header
		err := c.readAll(ctx, r, req, func(raw []byte, h http.Header) (err error) {
			header = h
			page, err = parseReferrers(r.by(subject), raw, h)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if query, err = pages.follow(header); query == nil || err != nil {
			return all, err
		}
	}
	return nil, mismatch("%s: more than %d referrers", r.by(subject), maxReferrers)
}

// parseReferrers parses one page, which must be JSON with a list of descriptors. A page
// of HTML with status 200 is an error, not an empty list.
func parseReferrers(of reference, raw []byte, header http.Header) ([]manifest.Referrer, error) {
	var im struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	if !strings.Contains(header.Get("Content-Type"), "json") {
		return nil, mismatch("%s: its referrers have the media type %s", of, transport.Clean(header.Get("Content-Type")))
	}
	err := json.Unmarshal(raw, &im)
	if err == nil {
		err = manifest.CheckEntries(im.Manifests)
	}
	var list []v1.Descriptor
	if err == nil && im.Manifests != nil {
		err = json.Unmarshal(im.Manifests, &list)
	}
	if err != nil {
		return nil, mismatch("%s: not a list of referrers: %w", of, err)
	}
	return referrersOf(list), nil
}

// referrersOf returns the entries of a list that have a digest.
func referrersOf(list []v1.Descriptor) []manifest.Referrer {
	out := make([]manifest.Referrer, 0, len(list))
	for _, d := range list {
		if d.Digest != (v1.Hash{}) {
			out = append(out, manifest.Referrer{Descriptor: d})
		}
	}
	return out
}
