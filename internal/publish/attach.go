package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
)

// This file stores what refers to a result as a whole: the signature and the provenance. Each is
// made at most once for a result, and only if it is needed.
//
// If all tags name the result already and the cache records that everything was attached with
// the same settings, no request is sent. Otherwise the registry is asked what there is: a
// signature with the same settings is kept, so that it is not stored again by each machine
// without a cache. The provenance belongs to a tag: if one moves, it is stored again, since the
// same image can be built from another commit.
//
// What refers to the whole is stored last. If it is there, so is what refers to the images.

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

	artifact v1.Image // nil if it was there already
}

// attests reports whether signatures or provenance are made.
func (pub *Publisher) attests() bool { return pub.Signer != nil || pub.Provenance }

// The kinds of the records of modules and of attachments in the cache.
const (
	modulesKind  = "modules"
	attachedKind = "attestations"
)

// made has what refers to a result, which is made when it is first called.
type made struct {
	signature, provenance func() ([]Attachment, error)
}

// making returns what refers to the result.
func (r *run) making(ctx context.Context, out *Result) made {
	return made{
		sync.OnceValues(func() ([]Attachment, error) { return r.signature(ctx, out) }),
		sync.OnceValues(func() ([]Attachment, error) { return r.statements(ctx, out) }),
	}
}

// of makes some of it.
func (m made) of(predicates []string) (all []Attachment, err error) {
	for _, p := range predicates {
		one := m.signature
		if p == attest.PredicateProvenance {
			one = m.provenance
		}
		list, err := one()
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// wanted returns the predicate types of what is attached.
func (r *run) wanted() (all []string) {
	if r.Signer != nil {
		all = append(all, attest.PredicateSignature)
	}
	if r.Provenance {
		all = append(all, attest.PredicateProvenance)
	}
	return all
}

// attach stores what refers to the result in a repository, after the content by its digest.
func (r *run) attach(ctx context.Context, repo *repository, out *Result, m made) error {
	record := repo.name + "@" + out.Digest.String() + " " + r.mark(out, "")
	list, lacks, err := r.lacking(ctx, repo, out, m, record)
	if err == nil && len(lacks) > 0 {
		var all []Attachment
		if all, err = m.of(lacks); err == nil {
			all, err = r.storeAll(ctx, repo.name, out, all, slices.Contains(lacks, attest.PredicateSignature))
			list = slices.Concat(list, all)
		}
	}
	if err != nil {
		return err
	}
	_ = r.Cache.Store(attachedKind, record, list) // else the referrers are listed
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(out.Attachments) < len(list) { // repositories can differ in what refers to images
		out.Attachments = list
	}
	return nil
}

// lacking returns what is attached in a repository already, and the predicate types of what is
// not. If a tag moves, the content is stored by its digest first.
func (r *run) lacking(ctx context.Context, repo *repository, out *Result, m made, record string) (found []Attachment, lacks []string, err error) {
	same := r.unchanged(ctx, repo, out)
	if same && !r.Client.Verify && r.Cache.Load(attachedKind, record, &found) {
		return found, nil, nil
	}
	if !same || r.Client.Verify {
		at := repo.name + "@" + out.Digest.String()
		if err := r.put(ctx, at, out.Content); err != nil {
			return nil, nil, err
		}
		if !r.Client.Found(at) { // nothing can refer to it
			return nil, r.wanted(), nil
		}
	}
	if found, err = r.listed(ctx, repo, out, m); err != nil {
		return nil, nil, err
	}
	if !same || r.Client.Verify {
		// A list can name what was deleted since.
		if found, err = r.present(ctx, repo, found); err != nil {
			return nil, nil, err
		}
	}
	if !same {
		found = slices.DeleteFunc(found, func(a Attachment) bool { return a.Predicate == attest.PredicateProvenance })
	}
	for _, predicate := range r.wanted() {
		if !slices.ContainsFunc(found, func(a Attachment) bool { return a.Predicate == predicate }) {
			lacks = append(lacks, predicate)
		}
	}
	return found, lacks, nil
}

// present returns the attachments that a repository has.
func (r *run) present(ctx context.Context, repo *repository, all []Attachment) (there []Attachment, err error) {
	for _, a := range all {
		switch _, err := r.Client.Resolve(ctx, repo.name+"@"+a.Digest.String()); {
		case err == nil:
			there = append(there, a)
		case !errors.Is(err, manifest.ErrNotFound):
			return nil, err
		}
	}
	return there, nil
}

// mark identifies the settings with which a statement was made: the signer, where it is
// attached, and what it is about. It is an annotation of the artifact, which a list of referrers
// has. With "" it covers all statements.
func (r *run) mark(out *Result, predicate string) string {
	text := fmt.Sprintf("1 %s %s %s %s", predicate, r.SignerID, r.AttachTo, r.SignFormat)
	if predicate != attest.PredicateSignature {
		text += fmt.Sprintf(" %t %s", r.Provenance, r.Settings)
	}
	if predicate != attest.PredicateProvenance {
		for _, sbom := range out.SBOMs {
			if digest, err := sbom.Digest(); err == nil {
				text += " " + digest.String()
			}
		}
	}
	return fmt.Sprintf("%.8x", sha256.Sum256([]byte(text)))
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

// listed returns what the registry lists that was made with the same settings. Who may write the
// repository can list or hide anything, so nothing is proven by that; the signature of a local
// key is the same each time, and its digest is compared.
func (r *run) listed(ctx context.Context, repo *repository, out *Result, m made) (found []Attachment, err error) {
	if r.Signer == nil {
		return r.listedUnsigned(ctx, repo, out)
	}
	if r.SignFormat == signsLegacy {
		signed, err := r.hasLegacy(ctx, repo.name, out.Digest)
		if signed {
			found = append(found, Attachment{Predicate: attest.PredicateSignature, Digest: out.Digest, Subject: out.Digest})
		}
		if err != nil || !r.Provenance {
			return found, err
		}
	}
	exact := map[string]v1.Hash{}
	if _, local := r.Signer.(*sign.Key); local && r.SignFormat != signsLegacy {
		all, err := m.signature()
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if a.Subject == out.Digest {
				exact[a.Predicate] = a.Digest
			}
		}
	}
	list, err := r.Client.Referrers(ctx, repo.name+"@"+out.Digest.String(), out.Digest)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, d := range list {
		predicate := attest.PredicateOf(d)
		digest, known := exact[predicate]
		if attest.MarkOf(d) == r.mark(out, predicate) && slices.Contains(r.wanted(), predicate) && !seen[predicate] && (!known || digest == d.Digest) {
			seen[predicate] = true
			found = append(found, Attachment{Predicate: predicate, Digest: d.Digest, Subject: out.Digest})
		}
	}
	return found, nil
}

// listedUnsigned is listed for unsigned provenance, which refers to each image.
func (r *run) listedUnsigned(ctx context.Context, repo *repository, out *Result) (found []Attachment, err error) {
	if r.InIndex {
		return nil, nil // the index names it
	}
	for _, i := range out.Images {
		digest, err := i.Digest()
		if err != nil {
			return nil, err
		}
		list, err := r.Client.Referrers(ctx, repo.name+"@"+digest.String(), digest)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(list, func(d manifest.Referrer) bool { return attest.MarkOf(d) == r.mark(out, attest.PredicateProvenance) })
		if at < 0 {
			return nil, nil
		}
		found = append(found, Attachment{Predicate: attest.PredicateProvenance, Digest: list[at].Digest, Subject: digest})
	}
	return found, nil
}

// storeAll stores the attachments of the images if they are attached to these, then those of
// the whole.
func (r *run) storeAll(ctx context.Context, repo string, out *Result, all []Attachment, signs bool) ([]Attachment, error) {
	var whole, images []Attachment
	for _, a := range all {
		if a.Subject == out.Digest {
			whole = append(whole, a)
		} else {
			images = append(images, a)
		}
	}
	to, err := r.toImages(ctx, repo, out)
	if err != nil {
		return nil, err
	}
	if r.Signer != nil && !to {
		images = nil
	}
	if err := r.store(ctx, repo, images); err != nil {
		return nil, err
	}
	if signs && r.SignFormat != signsBundle {
		if err := r.legacy(ctx, repo, out); err != nil {
			return nil, err
		}
	}
	return slices.Concat(whole, images), r.store(ctx, repo, whole)
}

// toImages reports whether signatures and provenance are attached to each image, too. With
// auto this costs no stray tags: the registry has the referrers API, or the image has a
// referrers tag for its SBOM anyway.
func (r *run) toImages(ctx context.Context, repo string, out *Result) (bool, error) {
	if r.AttachTo != attachAuto {
		return r.AttachTo != attachIndex, nil
	}
	if len(out.SBOMs) > 0 {
		return true, nil
	}
	return r.Client.ListsReferrers(ctx, repo+"@"+out.Digest.String())
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
