package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// This file makes what refers to a result as a whole: signatures and provenance.

// signature signs the result, its images and their SBOMs, and each SBOM.
func (r *run) signature(ctx context.Context, out *Result) ([]Attachment, error) {
	if r.SignFormat == signsLegacy {
		return nil, nil // see run.legacy
	}
	subjects, err := r.subjects(out)
	if err != nil {
		return nil, err
	}
	all, err := r.signed(ctx, out, attest.PredicateSignature, subjects, struct{}{})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sboms, err := r.signedSBOMs(ctx, out)
	if err != nil {
		return nil, fmt.Errorf("sign SBOM: %w", err)
	}
	return append(all, sboms...), nil
}

// statements makes the provenance: with a signer a signed statement about the whole and all
// images, else one for each image as BuildKit writes it.
func (r *run) statements(ctx context.Context, out *Result) ([]Attachment, error) {
	if r.Signer == nil {
		return r.unsigned(ctx, out)
	}
	subjects, err := r.subjects(out)
	if err != nil {
		return nil, err
	}
	predicate, err := r.provenance(ctx, out.Images)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	all, err := r.signed(ctx, out, attest.PredicateProvenance, subjects, predicate)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	return all, nil
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
	for _, a := range out.listed {
		list = append(list, attest.SubjectOf(out.Name+" attestation of "+a.Subject.String(), a.Digest))
	}
	for n, sbom := range out.SBOMs {
		digest, err := sbom.Digest()
		if err != nil {
			return nil, err
		}
		list = append(list, attest.SBOMSubject(out.Name+" "+platform.Key(out.Images[n].Platform), digest))
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
		artifact, err := attest.BundleArtifact(bundle, predicateType, r.mark(out, predicateType), c)
		if err == nil {
			all[i], err = attachment(predicateType, artifact)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// signedSBOMs signs the SBOM of each image as a statement of its own, which policies for
// clusters read. It refers to the image. A larger one than maxSigned is only named by the
// signature.
func (r *run) signedSBOMs(ctx context.Context, out *Result) ([]Attachment, error) {
	if r.SignFormat == signsLegacy || r.AttachTo == attachIndex {
		return nil, nil
	}
	var all []Attachment
	for n, sbom := range out.SBOMs {
		document, err := documentOf(sbom)
		if err != nil {
			return nil, err
		}
		if len(document) > maxSigned {
			continue
		}
		i := out.Images[n]
		digest, err := i.Digest()
		if err != nil {
			return nil, err
		}
		subject := attest.SubjectOf(out.Name+" "+platform.Key(i.Platform), digest)
		statement, err := attest.NewStatement(r.SBOM.PredicateType(), []attest.Subject{subject}, json.RawMessage(document))
		if err != nil {
			return nil, err
		}
		bundle, err := r.Signer.Sign(ctx, statement)
		if err != nil {
			return nil, err
		}
		artifact, err := attest.BundleArtifact(bundle, r.SBOM.PredicateType(), "", i.Image)
		if err != nil {
			return nil, err
		}
		a, err := attachment(r.SBOM.PredicateType(), artifact)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// maxSigned bounds the SBOM that a bundle holds, in bytes: verifiers read bundles of 4 MiB.
const maxSigned = 2 << 20

// documentOf returns the document of an SBOM's artifact, which is in memory.
func documentOf(sbom v1.Image) ([]byte, error) {
	layers, err := sbom.Layers()
	if err != nil {
		return nil, err
	}
	r, err := layers[0].Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // in memory
	return io.ReadAll(r)
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

// unsigned makes the unsigned provenance of each image, as BuildKit does, once for a result.
// With InIndex the SBOM is beside it, since docker buildx reads both there.
func (r *run) unsigned(ctx context.Context, out *Result) ([]Attachment, error) {
	if len(out.listed) > 0 {
		return out.listed, nil
	}
	var provenance attest.Provenance
	var err error
	if r.Provenance {
		if provenance, err = r.provenance(ctx, out.Images); err != nil {
			return nil, fmt.Errorf("provenance: %w", err)
		}
	}
	all := make([]Attachment, len(out.Images))
	for n, i := range out.Images {
		digest, err := i.Digest()
		if err != nil {
			return nil, err
		}
		subject := []attest.Subject{attest.SubjectOf(out.Name+" "+platform.Key(i.Platform), digest)}
		var statements [][]byte
		add := func(predicateType string, predicate any) error {
			raw, err := attest.NewStatement(predicateType, subject, predicate)
			statements = append(statements, raw)
			return err
		}
		if r.Provenance {
			err = add(attest.PredicateProvenance, provenance)
		}
		if err == nil && r.InIndex && len(out.SBOMs) > 0 {
			var document []byte
			if document, err = documentOf(out.SBOMs[n]); err == nil {
				err = add(r.SBOM.PredicateType(), json.RawMessage(document))
			}
		}
		if err != nil {
			return nil, err
		}
		mark := ""
		if !r.InIndex { // which names it, so its digest must not depend on settings
			mark = r.mark(out, attest.PredicateProvenance)
		}
		artifact, err := attest.StatementArtifact(i.Image, mark, statements...)
		if err != nil {
			return nil, err
		}
		if all[n], err = attachment(attest.PredicateProvenance, artifact); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// listStatements replaces the content by an index that lists the unsigned provenance and SBOM
// after each image, if the index is to list them.
func (r *run) listStatements(ctx context.Context, out *Result) error {
	idx, ok := out.Content.(v1.ImageIndex)
	if !r.InIndex || !ok || !r.Provenance && len(out.SBOMs) == 0 {
		return nil
	}
	var err error
	if out.listed, err = r.unsigned(ctx, out); err != nil {
		return err
	}
	if out.Content, err = withAttestations(idx, out.listed); err != nil {
		return err
	}
	out.Digest, err = out.Content.Digest()
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
	o, err := r.plan.Origin(ctx)
	if err != nil {
		return attest.Provenance{}, err
	}
	o.Tool = r.Tool
	if o.Values != nil { // --provenance max
		o.Started, o.Finished = r.start.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)
		for n, result := range r.smoked(images) {
			o.Byproducts = append(o.Byproducts, attest.Byproduct{
				Name: "smoke " + platform.Key(images[n].Platform), Annotations: map[string]string{"result": result.Status},
			})
		}
	}
	described := o.Values != nil
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
		materials[n] = attest.Material{Platform: i.Platform, Base: base, Info: info, Packages: packagesOf(i)}
		// Whether a program was compiled differs from run to run, so only max says it.
		if from, ok := r.origin(i); ok && described {
			materials[n].Record = attest.Record{Ref: from.Ref, Digest: from.Digest, Signer: from.Signer}
		}
	}
	return attest.NewProvenance(o, materials)
}

// origin returns the build record that the program of an image came from.
func (r *run) origin(i build.Image) (from records.Origin, ok bool) {
	if r.Records == nil || !i.Recalled {
		return from, false
	}
	return r.Records.Origin(i.Key)
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
