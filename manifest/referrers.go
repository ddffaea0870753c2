package manifest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A ReferrerLister is a Source that knows what refers to a manifest: signatures,
// SBOMs, provenance.
type ReferrerLister interface {
	// Referrers lists what refers to subject in the repository that ref is in:
	// by the API of OCI 1.1, or where there is none by its tag sha256-…, and by
	// those of cosign's tags sha256-….SUFFIX whose suffixes are given. Nothing
	// is an empty list.
	Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]Referrer, error)
}

// A Referrer is a manifest that refers to another.
type Referrer struct {
	v1.Descriptor
	// Tag is the tag by which it was found, for those of cosign: they refer to
	// their subject by nothing else.
	Tag string
}

// ReferrersTag is the tag that stands for what refers to h in a registry without an
// API for it (distribution-spec, "Referrers Tag Schema"). Cosign's tags of signatures
// and the like are this one, a dot and sig, att or sbom.
func ReferrersTag(h v1.Hash) string {
	tag := h.Algorithm + "-" + h.Hex
	return tag[:min(len(tag), 32+1+64)]
}

// IsReferrersTag reports whether a tag is of this form, or of cosign's: the name of
// no image, but the way to what refers to one.
func IsReferrersTag(tag string) bool { return referrersTag.MatchString(tag) }

var referrersTag = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,128}(\..+)?$`)

// The notes of a report.
const (
	noteAttested   = "attested"
	noteSBOM       = "sbom"
	noteProvenance = "provenance"
	noteSigned     = "signed"
)

const inTotoLayer = "application/vnd.in-toto+json"

// Annotations that say what a statement is about: BuildKit's on layers, and
// sigstore's on bundles.
const (
	annotationPredicate       = "in-toto.io/predicate-type"
	annotationBundlePredicate = "dev.sigstore.bundle.predicateType"
)

// notes says what there is about subject, beginning with its attestations.
func (i *inspection) notes(subject v1.Hash, attestations []Entry) ([]string, error) {
	var found []string
	for _, e := range attestations {
		kinds, err := attested(e)
		if err != nil {
			return nil, fmt.Errorf("attestation of %s: %w", subject, err)
		}
		found = append(found, kinds...)
	}
	if r, ok := i.source.(ReferrerLister); ok {
		refs, err := r.Referrers(i.ctx, i.ref, subject, "sig")
		if err != nil {
			return nil, fmt.Errorf("referrers of %s: %w", subject, err)
		}
		for _, d := range refs {
			found = append(found, kindOf(d))
		}
	}
	return ordered(found), nil
}

// attested returns what the statements in an attestation are about.
func attested(e Entry) ([]string, error) {
	_, m, err := e.manifest()
	if err != nil {
		return nil, err
	}
	kinds := []string{}
	for _, l := range m.Layers {
		kinds = append(kinds, kindOfPredicate(l.Annotations[annotationPredicate]))
	}
	if len(kinds) == 0 {
		kinds = []string{noteAttested}
	}
	return kinds, nil
}

// kindOf says what a referrer is, by what its descriptor tells.
func kindOf(r Referrer) string {
	predicate := r.Annotations[annotationBundlePredicate]
	if predicate == "" {
		predicate = r.Annotations[annotationPredicate]
	}
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
	case strings.Contains(kind, "in-toto"):
		return noteAttested
	case r.ArtifactType != "":
		return r.ArtifactType
	}
	return "referrer"
}

// kindOfPredicate says what a statement is about, by its predicate's type.
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

// ordered returns the notes once each, the known ones first. That there are
// attestations goes without saying where it is known of what.
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
