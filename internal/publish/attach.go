package publish

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file makes and stores what refers to a result as a whole: signatures and
// provenance. They are made at most once for a result, and only if a tag moves, a
// destination is local, or the client verifies: a run that changes nothing signs nothing.

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

// attachments makes what refers to the result: with a signer a statement about the whole and
// all images, else the provenance of each image as BuildKit writes it.
func (r *run) attachments(ctx context.Context, out *Result) ([]Attachment, error) {
	if r.Signer == nil {
		return out.unsigned, nil
	}
	subjects, err := r.subjects(out)
	if err != nil {
		return nil, err
	}
	var all []Attachment
	if r.SignFormat != signsLegacy {
		if all, err = r.signed(ctx, out, attest.PredicateSignature, subjects, struct{}{}); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
	}
	if !r.Provenance {
		return all, nil
	}
	predicate, err := r.provenance(ctx, out.Images)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	made, err := r.signed(ctx, out, attest.PredicateProvenance, subjects, predicate)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	return append(all, made...), nil
}

// subjects returns the index, its images and their SBOMs as subjects of statements. Names
// have no repository, so that the statement holds in each.
func (r *run) subjects(out *Result) ([]attest.Subject, error) {
	list := []attest.Subject{attest.SubjectOf(out.Name, out.Digest)}
	for _, i := range out.subjects() {
		digest, err := i.Digest()
		if err != nil {
			return nil, err
		}
		list = append(list, attest.SubjectOf(out.Name+" "+platform.Key(i.Platform), digest))
	}
	for _, a := range out.unsigned {
		list = append(list, attest.SubjectOf(out.Name+" attestation of "+a.Subject.String(), a.Digest))
	}
	for n, sbom := range out.SBOMs {
		digest, err := sbom.Digest()
		if err != nil {
			return nil, err
		}
		list = append(list, attest.SubjectOf(out.Name+" "+platform.Key(out.Images[n].Platform)+" sbom", digest))
	}
	return list, nil
}

// subjects returns the images that are not the content itself, as with --no-index.
func (r *Result) subjects() []build.Image {
	if _, ok := r.Content.(v1.ImageIndex); ok {
		return r.Images
	}
	return nil
}

// signed signs one statement about all subjects, and makes an artifact of its bundle for the
// whole and for each image. The artifacts share the blob of the bundle.
func (r *run) signed(ctx context.Context, out *Result, predicateType string, subjects []attest.Subject, predicate any) ([]Attachment, error) {
	statement, err := attest.NewStatement(predicateType, subjects, predicate)
	if err != nil {
		return nil, err
	}
	bundle, err := r.Signer.Sign(ctx, statement)
	if err != nil {
		return nil, err
	}
	content := []manifest.Content{out.Content}
	for _, i := range out.subjects() {
		content = append(content, i.Image)
	}
	all := make([]Attachment, len(content))
	for i, c := range content {
		artifact, err := attest.BundleArtifact(bundle, predicateType, c)
		if err == nil {
			all[i], err = attachment(predicateType, artifact)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// attachment describes an artifact.
func attachment(predicateType string, artifact v1.Image) (a Attachment, err error) {
	a = Attachment{Predicate: predicateType, artifact: artifact}
	if a.Digest, err = artifact.Digest(); err != nil {
		return a, err
	}
	m, err := artifact.Manifest()
	if err == nil {
		a.Subject = m.Subject.Digest
	}
	return a, err
}

// describe makes the unsigned provenance of each image, as BuildKit does, if there is no
// signer or the index is to list it. With InIndex it also replaces the content by an index
// that lists it after each image.
func (r *run) describe(ctx context.Context, out *Result) error {
	if !r.Provenance || r.Signer != nil && !r.InIndex {
		return nil
	}
	predicate, err := r.provenance(ctx, out.Images)
	if err != nil {
		return err
	}
	for _, i := range out.Images {
		digest, err := i.Digest()
		if err != nil {
			return err
		}
		subject := []attest.Subject{attest.SubjectOf(out.Name+" "+platform.Key(i.Platform), digest)}
		statement, err := attest.NewStatement(attest.PredicateProvenance, subject, predicate)
		if err != nil {
			return err
		}
		artifact, err := attest.StatementArtifact(i.Image, statement)
		if err != nil {
			return err
		}
		a, err := attachment(attest.PredicateProvenance, artifact)
		if err != nil {
			return err
		}
		out.unsigned = append(out.unsigned, a)
	}
	idx, ok := out.Content.(v1.ImageIndex)
	if !r.InIndex || !ok {
		return nil
	}
	if out.Content, err = withAttestations(idx, out.unsigned); err == nil {
		out.Digest, err = out.Content.Digest()
	}
	return err
}

// withAttestations returns an index that also lists artifacts, each after its subject.
func withAttestations(idx v1.ImageIndex, list []Attachment) (v1.ImageIndex, error) {
	im, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	var children []manifest.Child
	for _, d := range im.Manifests {
		children = append(children, manifest.Child{Descriptor: d, Open: func() (manifest.Content, error) { return manifest.ChildOf(idx, d) }})
	}
	for _, a := range list {
		d, err := manifest.Describe(a.artifact)
		if err != nil {
			return nil, err
		}
		d.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": a.Subject.String()}
		children = append(children, manifest.Child{Descriptor: d, Content: a.artifact})
	}
	return manifest.Index(children, im.Annotations)
}

// provenance describes how the images of a result were made. It reads the build
// information of each program, for which a program of a build record is compiled again.
func (r *run) provenance(ctx context.Context, images []build.Image) (attest.Provenance, error) {
	o := r.plan.Origin
	o.Tool = r.Tool
	if o.Values != nil { // --provenance max
		o.Started, o.Finished = r.start.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)
	}
	materials := make([]attest.Material, len(images))
	for n, i := range images {
		info, err := r.modules(ctx, i)
		if err != nil {
			return attest.Provenance{}, fmt.Errorf("build information: %w", err)
		}
		base, err := r.baseOf(ctx, i, nil) // without the packages of the base
		if err != nil {
			return attest.Provenance{}, fmt.Errorf("base: %w", err)
		}
		materials[n] = attest.Material{Platform: i.Platform, Base: base, Info: info}
	}
	return attest.NewProvenance(o, materials)
}

// modules returns the build information of a program without its settings, which can hold
// secrets. The cache keeps it by the digest of the image.
func (r *run) modules(ctx context.Context, i build.Image) (*debug.BuildInfo, error) {
	digest, err := i.Digest()
	if err != nil {
		return nil, err
	}
	kept := &debug.BuildInfo{}
	if r.Cache.Load(modulesKind, digest.String(), kept) {
		return kept, nil
	}
	info, err := i.BuildInfo(ctx)
	if info == nil || err != nil {
		return nil, err
	}
	kept = &debug.BuildInfo{GoVersion: info.GoVersion, Path: info.Path, Main: info.Main, Deps: info.Deps}
	_ = r.Cache.Store(modulesKind, digest.String(), kept) // else they are listed again
	return kept, nil
}

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
	var kept []Attachment
	recorded := r.Cache.Load(attachedKind, at+" "+r.settings(out), &kept) && len(kept) > 0
	if same := r.unchanged(ctx, repo, out); same && !r.Client.Verify {
		var err error
		if !recorded {
			kept, err = r.listed(ctx, repo, out, made)
		}
		if len(kept) > 0 || err != nil {
			return r.attached(at, out, kept, err)
		}
	}
	if err := r.put(ctx, at, out.Content); err != nil {
		return err
	}
	if recorded && !r.Provenance && !r.Client.Verify && r.Client.Found(at) {
		return r.attached(at, out, kept, nil)
	}
	all, err := made()
	if err != nil {
		return err
	}
	stored, err := r.storeAll(ctx, repo.name, out, all)
	return r.attached(at, out, stored, err)
}

// attached records what refers to the content at a reference, unless there is an error.
func (r *run) attached(at string, out *Result, list []Attachment, err error) error {
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

// settings is the part of the key of such a record that says what is attached.
func (r *run) settings(out *Result) string {
	text := fmt.Sprintf("1 %s %t %s %s", r.SignerID, r.Provenance, r.AttachTo, r.SignFormat)
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

// listed returns what the registry lists for the whole already, if that is everything. A
// signature by a local key is the same each time, so its digest is compared; of others only
// the kind.
func (r *run) listed(ctx context.Context, repo *repository, out *Result, made func() ([]Attachment, error)) ([]Attachment, error) {
	if r.Signer == nil || r.SignFormat != signsBundle {
		return nil, nil
	}
	list, err := r.Client.Referrers(ctx, repo.name+"@"+out.Digest.String(), out.Digest)
	if err != nil {
		return nil, err
	}
	var signature v1.Hash
	if _, local := r.Signer.(*sign.Key); local {
		all, err := made()
		if err != nil {
			return nil, err
		}
		signature = all[0].Digest
	}
	want := map[string]v1.Hash{attest.PredicateSignature: signature}
	if r.Provenance {
		want[attest.PredicateProvenance] = v1.Hash{}
	}
	var found []Attachment
	for _, d := range list {
		predicate := attest.PredicateOf(d)
		if digest, ok := want[predicate]; ok && (digest == (v1.Hash{}) || digest == d.Digest) {
			found = append(found, Attachment{Predicate: predicate, Digest: d.Digest, Subject: out.Digest})
			delete(want, predicate)
		}
	}
	if len(want) > 0 {
		return nil, nil
	}
	return found, nil
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

// store stores artifacts by digest, several at once.
func (r *run) store(ctx context.Context, repo string, all []Attachment) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range all {
		group.Go(func() error {
			return guard.Do(func() error { return r.put(ctx, repo+"@"+a.Digest.String(), a.artifact) })
		})
	}
	return group.Wait()
}
