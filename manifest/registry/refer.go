package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

// refer makes sure that content d, which is in r, is listed as a referrer of its
// subject, if it has one (distribution-spec, "Pushing Manifests with Subject").
// Where the registry has the referrers API, which it says in its answer to a
// manifest, or is asked once a run and repository, it lists them itself.
func (c *Client) refer(ctx context.Context, r repository, d v1.Descriptor, content manifest.Content) error {
	raw, err := content.RawManifest()
	if err != nil {
		return err
	}
	subject, err := subjectOf(raw, &d)
	if err != nil || subject == (v1.Hash{}) {
		return err
	}
	listed := r.by(d.Digest).String() + " " + subject.String()
	if c.session.exists.listed.has(listed) {
		return nil
	}
	if err := c.learnAPI(ctx, r, subject); err != nil {
		return err
	}
	if has, _ := c.session.hosts.api(r); !has {
		leave, err := c.session.exists.subjectLock(r.at(subject)).acquire(ctx)
		if err != nil {
			return err
		}
		defer leave()
		if err := c.list(ctx, r, subject, d); err != nil {
			return err
		}
	}
	c.session.exists.listed.add(listed)
	return nil
}

// learnAPI finds out whether r has the referrers API, unless that is known.
// Of several at once who want to know, one asks.
func (c *Client) learnAPI(ctx context.Context, r repository, subject v1.Hash) error {
	if _, known := c.session.hosts.api(r); known {
		return nil
	}
	leave, err := c.session.exists.subjectLock(contentKey{repository: r.host.name}).acquire(ctx)
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

// subjectOf returns the subject of a manifest, the zero hash for none, and completes
// its descriptor as lists of referrers have it.
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

// list adds d to the tag that lists the referrers of subject (distribution-spec,
// "Referrers Tag Schema"). No registry can be asked to do that only if nobody else
// did so meanwhile: of two programs at once, one may lose its entry.
func (c *Client) list(ctx context.Context, r repository, subject v1.Hash, d v1.Descriptor) error {
	at := reference{repository: r, tag: manifest.ReferrersTag(subject)}
	now, err := c.listAt(ctx, at, subject)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(now.Manifests, func(o v1.Descriptor) bool { return o.Digest == d.Digest }) {
		return nil
	}
	now.Manifests = append(now.Manifests, d)
	err = c.putList(ctx, at, now)
	if unknownParts(err) { // the list has entries that somebody deleted
		if now.Manifests, err = c.present(ctx, r, now.Manifests); err == nil {
			err = c.putList(ctx, at, now)
		}
	}
	return err
}

// listAt reads the list of referrers that a tag is. What it names counts only if it
// is an index that is not the subject itself, and of that what may be a referrer:
// some registries find the subject by this tag.
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

// present returns the descriptors of what is in r, and of what r does not tell of.
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

// putList stores a list of referrers.
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

// A listing is a list of referrers that is to be stored, all of whose entries are.
type listing struct {
	own v1.Descriptor
	raw []byte
}

func (l listing) MediaType() (types.MediaType, error) { return l.own.MediaType, nil }
func (l listing) Digest() (v1.Hash, error)            { return l.own.Digest, nil }
func (l listing) Size() (int64, error)                { return l.own.Size, nil }
func (l listing) RawManifest() ([]byte, error)        { return l.raw, nil }
