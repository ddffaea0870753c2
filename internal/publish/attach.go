package publish

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
)

// This file stores what refers to a result as a whole. It is made at most once for a result,
// and only if a tag moves, a destination is local, or the client verifies: a run that changes
// nothing signs nothing.

// The values of Publisher.AttachTo and Publisher.SignFormat.
const (
	attachAuto  = "auto"
	attachIndex = "index"
	signsBundle = "bundle"
	signsLegacy = "legacy"
)

// An Attachment is an artifact that refers to the index or to an image.
type Attachment struct {
	Predicate string // predicate type of the statement
	Digest    v1.Hash
	Subject   v1.Hash

	artifact v1.Image // nil if only the record of an earlier run is known
}

// attests reports whether signatures or provenance are made.
func (pub *Publisher) attests() bool { return pub.Signer != nil || pub.Provenance }

// The kinds of the records of modules and of attachments in the cache.
const (
	modulesKind  = "modules"
	attachedKind = "attestations"
)

// attach stores what refers to the result in a repository, after the content by its digest.
// It sends no request if all tags name the content already and the cache records that
// everything was attached. A tag that moves to content which was attached before gets
// provenance of its own.
func (r *run) attach(ctx context.Context, repo *repository, out *Result, made func() ([]Attachment, error)) error {
	at := repo.name + "@" + out.Digest.String()
	list, done, err := r.known(ctx, repo, out, made)
	if !done && err == nil {
		var all []Attachment
		if all, err = made(); err == nil {
			list, err = r.storeAll(ctx, repo.name, out, all)
		}
	}
	if err != nil {
		return err
	}
	_ = r.Cache.Store(attachedKind, at+" "+r.settings(out), list) // else the referrers are listed
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(out.Attachments) < len(list) { // repositories can differ in what refers to images
		out.Attachments = list
	}
	return nil
}

// known returns what was attached in a repository before, and reports whether that is
// everything. If it is not known without a request that a push of nothing new would not
// send, the content is stored by its digest first.
func (r *run) known(ctx context.Context, repo *repository, out *Result, made func() ([]Attachment, error)) (list []Attachment, done bool, err error) {
	at := repo.name + "@" + out.Digest.String()
	recorded := !r.Client.Verify && r.Cache.Load(attachedKind, at+" "+r.settings(out), &list)
	if !r.Client.Verify && r.unchanged(ctx, repo, out) {
		if recorded {
			return list, true, nil
		}
		if list, done, err = r.listed(ctx, repo, out, made); done || err != nil {
			return list, done, err
		}
	}
	err = r.put(ctx, at, out.Content)
	// A registry may have removed what no tag named, with what referred to it.
	return list, recorded && !r.Provenance && r.Client.Found(at), err
}

// settings is the part of the key of such a record that says what is attached.
func (r *run) settings(out *Result) string {
	text := fmt.Sprintf("1 %s %t %s %s", r.Settings, r.Provenance, r.AttachTo, r.SignFormat)
	for _, sbom := range out.SBOMs {
		if digest, err := sbom.Digest(); err == nil {
			text += " " + digest.String()
		}
	}
	return text
}

// unchanged reports whether all tags of a repository name the content. A tag is asked for
// once in a run, so this costs no request that moving the tags would not.
func (r *run) unchanged(ctx context.Context, repo *repository, out *Result) bool {
	for _, tag := range repo.tags {
		if d, err := r.Client.Resolve(ctx, tag); err != nil || d.Digest != out.Digest {
			return false
		}
	}
	return true
}

// listed returns what the registry lists for the whole already, and reports whether that is
// everything. A signature by a local key is the same each time, so its digest is compared; of others only
// the kind.
func (r *run) listed(ctx context.Context, repo *repository, out *Result, made func() ([]Attachment, error)) (found []Attachment, all bool, err error) {
	if r.Signer == nil || r.SignFormat != signsBundle {
		return nil, false, nil
	}
	list, err := r.Client.Referrers(ctx, repo.name+"@"+out.Digest.String(), out.Digest)
	if err != nil {
		return nil, false, err
	}
	var signature v1.Hash
	if _, local := r.Signer.(*sign.Key); local {
		all, err := made()
		if err != nil {
			return nil, false, err
		}
		signature = all[0].Digest
	}
	want := map[string]v1.Hash{attest.PredicateSignature: signature}
	if r.Provenance {
		want[attest.PredicateProvenance] = v1.Hash{}
	}
	for _, d := range list {
		predicate := attest.PredicateOf(d)
		if digest, ok := want[predicate]; ok && (digest == (v1.Hash{}) || digest == d.Digest) {
			found = append(found, Attachment{Predicate: predicate, Digest: d.Digest, Subject: out.Digest})
			delete(want, predicate)
		}
	}
	return found, len(want) == 0, nil
}

// storeAll stores the attachments of the whole, then those of its images if they are
// attached to these.
func (r *run) storeAll(ctx context.Context, repo string, out *Result, all []Attachment) ([]Attachment, error) {
	var whole, images []Attachment
	for _, a := range all {
		if a.Subject == out.Digest {
			whole = append(whole, a)
		} else {
			images = append(images, a)
		}
	}
	if err := r.store(ctx, repo, whole); err != nil {
		return nil, err
	}
	if r.SignFormat != signsBundle && r.Signer != nil {
		if err := r.legacy(ctx, repo, out); err != nil {
			return nil, err
		}
	}
	if r.Signer != nil && !r.toImages(ctx, repo, out) {
		return whole, nil
	}
	return slices.Concat(whole, images), r.store(ctx, repo, images)
}

// toImages reports whether signatures and provenance are attached to each image, too. With
// auto this costs no stray tags: the registry has the referrers API, or the image has a
// referrers tag for its SBOM anyway.
func (r *run) toImages(ctx context.Context, repo string, out *Result) bool {
	if r.AttachTo != attachAuto {
		return r.AttachTo != attachIndex
	}
	if len(out.SBOMs) > 0 {
		return true
	}
	// Without the API the client has just written this tag, and asks nobody.
	_, err := r.Client.Resolve(ctx, repo+":"+manifest.ReferrersTag(out.Digest))
	return err != nil
}

// store stores artifacts by digest, and lists those of one subject together.
func (r *run) store(ctx context.Context, repo string, all []Attachment) error {
	if len(all) == 0 {
		return nil
	}
	var artifacts []v1.Image
	for _, a := range all {
		artifacts = append(artifacts, a.artifact)
	}
	return r.explain(r.Client.PutReferrers(ctx, repo, artifacts...), artifacts[0])
}
