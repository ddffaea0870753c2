package manifest

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// This file names the kinds of referrers and attestations in a report. The names are a
// help for readers: they come from media types and annotations that anybody can write,
// and prove nothing.

// A ReferrerLister is a Source that can list the referrers of a manifest: signatures,
// SBOMs, provenance.
type ReferrerLister interface {
	// Referrers lists the referrers of subject in the repository of ref: by the referrers
	// API (distribution-spec, "Listing Referrers") or, without it, by the referrers tag.
	// It adds the manifests of cosign's tags sha256-….SUFFIX for the given suffixes. No
	// referrers are an empty list and no error.
	Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]Referrer, error)
}

// A Referrer is a manifest that refers to another one, its subject.
type Referrer struct {
	v1.Descriptor
	// Tag is cosign's tag of this manifest, which is its only link to the subject. It is
	// "" for a manifest that has a subject field.
	Tag string
}

// ReferrersTag returns the tag that lists the referrers of h in a registry without the
// referrers API (distribution-spec, "Referrers Tag Schema"). The tags of cosign for
// signatures, attestations and SBOMs are this one with .sig, .att or .sbom.
func ReferrersTag(h v1.Hash) string {
	tag := h.Algorithm + "-" + h.Hex
	return tag[:min(len(tag), 32+1+64)]
}

// IsReferrersTag reports whether tag is a referrers tag or one of cosign's tags. Such a
// tag does not name an image, so lists of images leave it out.
func IsReferrersTag(tag string) bool { return referrersTag.MatchString(tag) }

var referrersTag = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,128}(\..+)?$`)

// The notes of a report, as [Runnable] describes them.
const (
	noteAttested   = "attested"
	noteSBOM       = "sbom"
	noteProvenance = "provenance"
	noteSigned     = "signature (not verified)"
)

// inTotoLayer is the media type of a layer that is an in-toto statement.
const inTotoLayer = "application/vnd.in-toto+json"

// Annotations with the predicate type of a statement: that of BuildKit on layers, and
// that of sigstore on bundles.
const (
	annotationPredicate       = "in-toto.io/predicate-type"
	annotationBundlePredicate = "dev.sigstore.bundle.predicateType"
)

// referrers lists what describes subject: its attestations, then its referrers.
func (i *inspection) referrers(subject v1.Hash, attestations []Entry) ([]Attached, error) {
	var found []Attached
	for _, e := range attestations {
		statements, err := attested(e)
		if err != nil {
			return nil, fmt.Errorf("attestation of %s: %w", subject, err)
		}
		found = append(found, statements...)
	}
	if r, ok := i.source.(ReferrerLister); ok {
		refs, err := r.Referrers(i.ctx, i.ref, subject, "sig")
		if err != nil {
			return nil, fmt.Errorf("referrers of %s: %w", subject, err)
		}
		children := found
		for _, d := range refs {
			// BuildKit's attestation can be a child of the index and a referrer of its subject.
			if slices.ContainsFunc(children, func(a Attached) bool { return a.Digest == d.Digest }) {
				continue
			}
			found = append(found, Attached{
				Kind: kindOf(d), Digest: d.Digest, Type: d.MediaType, ArtifactType: d.ArtifactType,
				PredicateType: predicateOf(d.Annotations), Signed: signed(d), Size: max(d.Size, 0),
			})
		}
	}
	for n := range found {
		found[n].Subject = subject
	}
	return found, nil
}

// signed reports whether a referrer is a signature or has one, by its artifact type or tag.
func signed(r Referrer) bool {
	kind := strings.ToLower(r.ArtifactType)
	return r.Tag != "" || strings.Contains(kind, "sigstore") || strings.Contains(kind, "signature")
}

// notes returns the notes about an image: the kinds of what describes it.
func notes(list []Attached) []string {
	kinds := make([]string, len(list))
	for i, a := range list {
		kinds[i] = a.Kind
	}
	return ordered(kinds)
}

// attested lists the statements in an attestation. It reads the manifest, not the
// statements: BuildKit annotates its layers with the predicate types.
func attested(e Entry) ([]Attached, error) {
	_, m, err := e.manifest()
	if err != nil {
		return nil, err
	}
	one := Attached{Kind: noteAttested, Digest: e.Descriptor.Digest, Type: e.Descriptor.MediaType, ArtifactType: inTotoLayer, Size: max(e.Descriptor.Size, 0)}
	var all []Attached
	for _, l := range m.Layers {
		one.PredicateType = l.Annotations[annotationPredicate]
		one.Kind = kindOfPredicate(one.PredicateType)
		all = append(all, one)
	}
	if len(all) == 0 {
		all = []Attached{one}
	}
	return all, nil
}

// predicateOf returns the predicate type that annotations name, or "".
func predicateOf(annotations map[string]string) string {
	return cmp.Or(annotations[annotationBundlePredicate], annotations[annotationPredicate])
}

// kindOf returns the note for a referrer, from its descriptor alone. It matches parts of
// the artifact type, because versions and vendors vary; an unknown artifact type is the
// note.
func kindOf(r Referrer) string {
	predicate := predicateOf(r.Annotations)
	kind := strings.ToLower(r.ArtifactType)
	switch {
	case r.Tag != "":
		return noteSigned
	case predicate != "":
		return kindOfPredicate(predicate)
	case strings.Contains(kind, "spdx"), strings.Contains(kind, "cyclonedx"), strings.Contains(kind, "sbom"):
		return noteSBOM
	case strings.Contains(kind, "provenance"):
		return noteProvenance
	case strings.Contains(kind, "cosign"), strings.Contains(kind, "sigstore"), strings.Contains(kind, "signature"):
		return noteSigned
	case strings.Contains(kind, "in-toto"), strings.Contains(kind, "attestation"):
		return noteAttested
	case r.ArtifactType != "":
		return r.ArtifactType
	}
	return "referrer"
}

// kindOfPredicate returns the note for a statement with this predicate type.
func kindOfPredicate(predicate string) string {
	switch p := strings.ToLower(predicate); {
	case strings.Contains(p, "spdx"), strings.Contains(p, "cyclonedx"), strings.Contains(p, "sbom"):
		return noteSBOM
	case strings.Contains(p, "provenance"):
		return noteProvenance
	case strings.Contains(p, "cosign/sign"):
		return noteSigned
	}
	return noteAttested
}

// ordered returns each note once, the known ones first. It drops "attested" if the notes
// say what the attestations are.
func ordered(notes []string) []string {
	slices.Sort(notes)
	notes = slices.Compact(notes)
	var out []string
	for _, known := range []string{noteSBOM, noteProvenance, noteSigned} {
		if slices.Contains(notes, known) {
			out = append(out, known)
		}
	}
	if slices.Contains(notes, noteAttested) && !slices.Contains(out, noteSBOM) && !slices.Contains(out, noteProvenance) {
		out = append(out, noteAttested)
	}
	for _, n := range notes {
		if n != noteAttested && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
