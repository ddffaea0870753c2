package attest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
)

// Predicate types of statements.
const (
	// PredicateSignature says nothing about its subjects but that a key has signed them.
	// Its predicate is empty, as that of cosign sign.
	PredicateSignature  = "https://sigstore.dev/cosign/sign/v1"
	PredicateProvenance = "https://slsa.dev/provenance/v1"
)

// statementV1 is the type of an in-toto statement (attestation spec/v1/statement.md).
const statementV1 = "https://in-toto.io/Statement/v1"

// statementTypes are the types of statements that are read.
var statementTypes = map[string]bool{statementV1: true, "https://in-toto.io/Statement/v0.1": true}

// A Statement says something about content, its subjects.
type Statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []Subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

// A Subject is content by digest. The name helps readers and has no repository, so that a
// statement holds in every place.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// SubjectOf returns content as a subject.
func SubjectOf(name string, h v1.Hash) Subject {
	return Subject{name, map[string]string{h.Algorithm: h.Hex}}
}

// NewStatement returns the statement as JSON, the same bytes for the same arguments.
func NewStatement(predicateType string, subjects []Subject, predicate any) ([]byte, error) {
	p, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Statement{statementV1, predicateType, subjects, p})
}

// ParseStatement reads a statement. Nothing is proven by that.
func ParseStatement(raw []byte) (Statement, error) {
	var s Statement
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("the statement is not valid: %w", err)
	}
	if !statementTypes[s.Type] {
		return s, fmt.Errorf("not an in-toto statement")
	}
	return s, nil
}

// About reports whether content is a subject of s.
func (s Statement) About(h v1.Hash) bool {
	for _, subject := range s.Subject {
		if h.Hex != "" && subject.Digest[h.Algorithm] == h.Hex {
			return true
		}
	}
	return false
}

// sbomSuffix ends the name of a subject that is an SBOM, after the name of its image.
const sbomSuffix = " sbom"

// SBOMSubject returns the SBOM of an image as a subject.
func SBOMSubject(image string, h v1.Hash) Subject { return SubjectOf(image+sbomSuffix, h) }

// pairs reports whether s names content as the SBOM of a subject. Without an index the name of
// the SBOM has the platform, and that of the image has not.
func (s Statement) pairs(subject, sbom v1.Hash) bool {
	for _, of := range s.Subject {
		if of.Digest[subject.Algorithm] != subject.Hex {
			continue
		}
		for _, is := range s.Subject {
			image, ok := strings.CutSuffix(is.Name, sbomSuffix)
			if is.Digest[sbom.Algorithm] == sbom.Hex && ok && (image == of.Name || strings.HasPrefix(image, of.Name+" ")) {
				return true
			}
		}
	}
	return false
}

// The annotations of cosign on the manifest of a bundle. It has a third one, the time,
// which would give another digest in each run.
const (
	annotationContent   = "dev.sigstore.bundle.content"
	annotationPredicate = "dev.sigstore.bundle.predicateType"
)

// annotationMark has the settings with which mabuild made an artifact, as a short hash.
const annotationMark = "dev.mabuild.attested"

// MarkOf returns the mark that a referrer was given when it was made, or "". Nothing is proven
// by that.
func MarkOf(d manifest.Referrer) string { return d.Annotations[annotationMark] }

// marked adds a mark to annotations, unless it is empty.
func marked(annotations map[string]string, mark string) map[string]string {
	if mark != "" {
		annotations[annotationMark] = mark
	}
	return annotations
}

// BundleArtifact wraps the bundle of a statement as an artifact that refers to subject, in
// the form of cosign 3. mark, if any, is for MarkOf.
func BundleArtifact(bundle []byte, predicateType, mark string, subject manifest.Content) (v1.Image, error) {
	annotations := map[string]string{annotationContent: "dsse-envelope", annotationPredicate: predicateType}
	return refer(subject, sign.BundleType, marked(annotations, mark), layer{sign.BundleType, bundle, nil})
}

// PredicateOf returns the predicate type that a bundle or a statement among referrers names,
// or "". Nothing is proven by that.
func PredicateOf(d manifest.Referrer) string {
	switch {
	case sign.IsBundle(d.ArtifactType):
		return d.Annotations[annotationPredicate]
	case d.ArtifactType == buildKitType:
		return d.Annotations[predicateAnnotation]
	}
	return ""
}

// buildKitType is the artifact type of BuildKit's attestations (docs/attestations/
// attestation-storage.md), and predicateAnnotation names the predicate type of a layer.
const (
	buildKitType        = "application/vnd.docker.attestation.manifest.v1+json"
	predicateAnnotation = "in-toto.io/predicate-type"
)

// StatementArtifact wraps unsigned statements about an image as an artifact that refers to
// it, in the form of BuildKit. It can also be a child of the index of the image. mark, if any,
// is for MarkOf.
func StatementArtifact(subject manifest.Content, mark string, statements ...[]byte) (v1.Image, error) {
	var layers []layer
	predicates := map[string]string{}
	for _, raw := range statements {
		s, err := ParseStatement(raw)
		if err != nil {
			return nil, err
		}
		// A list of referrers shows the annotations of the manifest alone.
		predicates[predicateAnnotation] = cmp.Or(predicates[predicateAnnotation], s.PredicateType)
		layers = append(layers, layer{sign.StatementType, raw, map[string]string{predicateAnnotation: s.PredicateType}})
	}
	return refer(subject, buildKitType, marked(predicates, mark), layers...)
}
