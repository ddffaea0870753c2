package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest"
)

// refer makes sure that content d, which is in r, is listed as a referrer of its subject
// (distribution-spec, "Pushing Manifests with Subject"). Content without a subject is
// left alone. A registry with the referrers API lists it by itself. The client asks once
// for each repository in a run whether there is an API. OCI-Subject in the answer to a PUT
// is no proof: Amazon ECR has sent it where a client could not list.
//
// Without the API the list is the index under the referrers tag, which is read, extended
// and put. A lock for each subject makes the goroutines of this run do so one after
// another.
func (c *Client) refer(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	raw, err := content.RawManifest()
	if err != nil {
		return err
	}
	subject, err := subjectOf(raw, &d)
	if err != nil || subject == (v1.Hash{}) {
		return err
	}
	return c.referAll(ctx, r, subject, d)
}

// PutReferrers stores images that refer to others in a repository, by their digests. Without
// the referrers API, those of one subject are added to its list in one step: each costs two
// requests less than with [Client.Put].
func (c *Client) PutReferrers(ctx context.Context, repo string, all ...v1.Image) error {
	var r repository
	of, subjects := map[v1.Hash][]v1.Descriptor{}, []v1.Hash{}
	group, inner := errgroup.WithContext(ctx)
	for _, img := range all {
		d, err := manifest.Describe(img)
		if err != nil {
			return err
		}
		at, err := c.parse(repo + "@" + d.Digest.String())
		if err != nil {
			return err
		}
		raw, err := img.RawManifest()
		if err != nil {
			return err
		}
		listed := d
		subject, err := subjectOf(raw, &listed)
		if err != nil {
			return err
		}
		if subject != (v1.Hash{}) {
			if of[subject] == nil {
				subjects = append(subjects, subject)
			}
			of[subject] = append(of[subject], listed)
		}
		r = at.repository
		c.writing(r)
		group.Go(func() error { return guard.Do(func() error { return c.put(inner, at, d, img) }) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	group, inner = errgroup.WithContext(ctx)
	for _, subject := range subjects {
		group.Go(func() error { return guard.Do(func() error { return c.referAll(inner, r, subject, of[subject]...) }) })
	}
	return group.Wait()
}

// ListsReferrers reports whether the registry of ref, a digest, lists the referrers of a
// repository itself. It asks once for each repository in a run. Without the referrers API they
// are listed under a tag, and each subject has one.
func (c *Client) ListsReferrers(ctx context.Context, ref string) (bool, error) {
	r, err := c.parse(ref)
	if err != nil {
		return false, err
	}
	if err := c.learnAPI(ctx, r.repository, r.digest); err != nil {
		return false, err
	}
	has, _ := c.session.hosts.api(r.repository)
	return has, nil
}

// referAll is refer for several referrers of one subject, as a list of referrers has them.
func (c *Client) referAll(ctx context.Context, r repository, subject v1.Hash, all ...v1.Descriptor) error {
	key := func(d v1.Descriptor) string { return r.by(d.Digest).String() + " " + subject.String() }
	all = slices.DeleteFunc(slices.Clone(all), func(d v1.Descriptor) bool { return c.session.exists.listed.has(key(d)) })
	if len(all) == 0 {
		return nil
	}
	if err := c.learnAPI(ctx, r, subject); err != nil {
		return err
	}
	if has, _ := c.session.hosts.api(r); !has {
		leave, err := c.session.exists.subjectLock(r.at(subject)).Acquire(ctx)
		if err != nil {
			return err
		}
		defer leave()
		if err := c.list(ctx, r, subject, all); err != nil {
			return err
		}
	}
	for _, d := range all {
		c.session.exists.listed.add(key(d))
	}
	return nil
}

// learnAPI finds out whether r has the referrers API, unless that is known. The callers
// for one host ask one after another, so that the answer to the first may serve all.
func (c *Client) learnAPI(ctx context.Context, r repository, subject v1.Hash) error {
	if _, known := c.session.hosts.api(r); known {
		return nil
	}
	leave, err := c.session.exists.subjectLock(contentKey{repository: r.host.Name}).Acquire(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if _, known := c.session.hosts.api(r); known {
		return nil
	}
	_, _, err = c.byAPI(ctx, r, subject)
	return err
}

// subjectOf returns the digest of a manifest's subject, or the zero hash. It completes d
// with the artifact type and annotations that a list of referrers has ("Listing
// Referrers"): the type is artifactType, else the media type of the config.
func subjectOf(raw []byte, d *v1.Descriptor) (v1.Hash, error) {
	var m struct {
		Subject      *v1.Descriptor    `json:"subject"`
		ArtifactType string            `json:"artifactType"`
		Config       v1.Descriptor     `json:"config"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return v1.Hash{}, mismatch("%s: %w", d.Digest, err)
	}
	if m.Subject == nil {
		return v1.Hash{}, nil
	}
	d.ArtifactType, d.Annotations = cmp.Or(m.ArtifactType, string(m.Config.MediaType)), m.Annotations
	return m.Subject.Digest, nil
}

// list adds referrers to the index under the referrers tag of subject ("Referrers Tag Schema").
// The specification has no conditional PUT: if two programs change the list at once, the
// later PUT wins and one entry is lost. What this run has listed is never lost by it, even
// if the registry refuses to show the list.
//
// A registry may refuse the list because an old entry was deleted. The list is then put
// again with the entries that still exist.
func (c *Client) list(ctx context.Context, r repository, subject v1.Hash, all []v1.Descriptor) error {
	at := reference{repository: r, tag: manifest.ReferrersTag(subject)}
	now, err := c.listAt(ctx, at, subject)
	if err != nil {
		return err
	}
	has := func(d v1.Descriptor) bool {
		return slices.ContainsFunc(now.Manifests, func(o v1.Descriptor) bool { return o.Digest == d.Digest })
	}
	if !slices.ContainsFunc(all, func(d v1.Descriptor) bool { return !has(d) }) {
		return nil
	}
	for _, one := range append(c.session.exists.referrersListed(r.at(subject)), all...) {
		if !has(one) {
			now.Manifests = append(now.Manifests, one)
		}
	}
	err = c.putList(ctx, at, now)
	if unknownParts(err) { // an entry of the list has been deleted
		if now.Manifests, err = c.present(ctx, r, now.Manifests); err == nil {
			err = c.putList(ctx, at, now)
		}
	}
	if err == nil {
		c.session.exists.referrersListed(r.at(subject), all...)
	}
	return err
}

// listAt reads the index under a referrers tag. A missing tag is an empty list. So is
// anything but an index, and the subject itself: some registries resolve this tag to the
// subject. Entries with a platform are dropped, since they are children of an ordinary
// index and not referrers.
func (c *Client) listAt(ctx context.Context, at reference, subject v1.Hash) (v1.IndexManifest, error) {
	empty := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	content, err := c.get(ctx, at, v1.Descriptor{})
	if nowhere(err) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	idx, ok := content.(v1.ImageIndex)
	if digest, err := content.Digest(); err != nil || !ok || digest == subject {
		return empty, err
	}
	im, err := idx.IndexManifest()
	if err != nil {
		return empty, err
	}
	now := *im
	now.MediaType = types.OCIImageIndex
	now.Manifests = slices.DeleteFunc(now.Manifests, func(d v1.Descriptor) bool {
		return d.Platform != nil || d.Digest == (v1.Hash{}) // the children of an ordinary index
	})
	return now, nil
}

// present returns the descriptors whose content is in r, or for which r refuses to
// answer.
func (c *Client) present(ctx context.Context, r repository, all []v1.Descriptor) ([]v1.Descriptor, error) {
	var there []v1.Descriptor
	for _, d := range all {
		switch _, err := c.head(ctx, r.by(d.Digest)); {
		case err == nil, unanswered(err):
			there = append(there, d)
		case !missing(err):
			return nil, err
		}
	}
	return there, nil
}

// putList stores a list of referrers under its tag. A list larger than maxManifest is an
// error, since registries refuse it.
func (c *Client) putList(ctx context.Context, at reference, list v1.IndexManifest) error {
	raw, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if len(raw) > maxManifest {
		return errors.New("the list of referrers would exceed the size limit of registries")
	}
	is, err := digestOf("sha256", raw)
	if err != nil {
		return err
	}
	d := v1.Descriptor{MediaType: list.MediaType, Digest: is, Size: int64(len(raw))}
	if err := c.putManifest(ctx, at, d, listing{d, raw}); err != nil {
		c.session.tags.forget(at)
		return err
	}
	c.session.tags.set(at, d)
	return nil
}

// A listing is a list of referrers as a [manifest.Content]. Its entries are stored
// already, so it has no children to store.
type listing struct {
	own v1.Descriptor
	raw []byte
}

func (l listing) MediaType() (types.MediaType, error) { return l.own.MediaType, nil }
func (l listing) Digest() (v1.Hash, error)            { return l.own.Digest, nil }
func (l listing) Size() (int64, error)                { return l.own.Size, nil }
func (l listing) RawManifest() ([]byte, error)        { return l.raw, nil }
