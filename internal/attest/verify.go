package attest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// What a [Policy] can require of an image.
const (
	RequireSignature  = "signature"  // a signed statement with PredicateSignature
	RequireProvenance = "provenance" // a signed statement with PredicateProvenance
	RequireSBOM       = "sbom"       // a signed SBOM, or one that a signed statement names
)

// The bounds of what is read about one subject.
const (
	maxReferrers = 100  // referrers, or signatures under a tag; Kyverno reads 50
	maxReason    = 200  // bytes of a text from outside that an error shows
	maxOutput    = 1200 // bytes of an error, which may have the output of cosign
)

// A Policy says what signed statements must say about an image. The zero Policy requires
// nothing.
type Policy struct {
	Require []string
	// Source, Ref and Builder are compared with the provenance; "" accepts any. Source is
	// the address of the repository, with or without git+.
	Source, Ref, Builder string
	// Platforms are those to verify; empty verifies the index and all its images.
	Platforms []ocispec.Platform
	// Open checks the signature of a bundle, and returns its statement. about is content
	// that the statement must name, which the caller compares, too.
	Open func(ctx context.Context, bundle []byte, about v1.Hash) (statement []byte, err error)
	// OpenSimple checks a signature in the form of cosign 2, and returns the digest that it
	// signs. Without it, the tags of these signatures are not read.
	OpenSimple func(content, signature []byte) (digest string, err error)
}

// An Image is an image or index to verify, with access to what refers to it.
type Image struct {
	Content   manifest.Content
	Get       func(ctx context.Context, h v1.Hash) (manifest.Content, error)
	Referrers func(ctx context.Context, subject v1.Hash) ([]manifest.Referrer, error)
	// Tagged returns what a tag of cosign beside the image names, or an error with
	// manifest.ErrNotFound.
	Tagged func(ctx context.Context, tag string) (manifest.Content, error)
}

// A Verdict is what was verified about an index or an image.
type Verdict struct {
	Platform string   `json:"platform,omitempty"` // "" for the index, or an image without one
	Digest   v1.Hash  `json:"digest"`
	Verified []string `json:"verified"`          // of Policy.Require
	Missing  []string `json:"missing,omitempty"` // a sentence for each that does not hold
	Source   string   `json:"source,omitempty"`  // of the provenance
	Ref      string   `json:"ref,omitempty"`
	Builder  string   `json:"builder,omitempty"`
}

// evidence is what signed statements say about one subject.
type evidence struct {
	statements []Statement
	sboms      []v1.Hash // SBOMs that refer to the subject; nothing is proven about them
	refused    []string  // why other bundles do not count
}

// Verify returns a verdict on the index and on each of its images, or on the one image.
// Every image must be named by a signed statement about the index, or have one of its own:
// what a registry adds to the index, or a mirror leaves out, does not pass unseen. With
// Platforms the index itself need not hold, since a copy of some platforms has another one.
//
// The error is about reading; what does not hold is in the verdicts.
func (p Policy) Verify(ctx context.Context, i Image) ([]Verdict, error) {
	digest, err := i.Content.Digest()
	if err != nil {
		return nil, err
	}
	whole, err := p.gather(ctx, i, digest)
	if err != nil {
		return nil, err
	}
	entries, err := p.images(i.Content)
	if err != nil {
		return nil, err
	}
	if signed, err := p.simple(ctx, i, digest, &whole); err != nil {
		return nil, err
	} else if signed {
		// The signed digest is that of a list of these digests.
		all := []Subject{SubjectOf("", digest)}
		for _, e := range entries {
			all = append(all, SubjectOf("", e.Descriptor.Digest))
		}
		whole.statements = append(whole.statements, Statement{statementV1, PredicateSignature, all, nil})
	}
	var all []Verdict
	_, isIndex := i.Content.(v1.ImageIndex)
	if isIndex && len(p.Platforms) == 0 {
		// An SBOM describes an image, not the index.
		all = append(all, p.without(RequireSBOM).judge(digest, whole))
	}
	for _, e := range entries {
		own := e.Descriptor.Digest
		known := whole
		if isIndex {
			known.sboms = nil // these describe the index
		}
		verdict := p.judge(own, known)
		if isIndex && len(verdict.Missing) > 0 {
			if known, err = p.gather(ctx, i, own); err != nil {
				return nil, err
			}
			if signed, err := p.simple(ctx, i, own, &known); err != nil {
				return nil, err
			} else if signed {
				known.statements = append(known.statements, Statement{statementV1, PredicateSignature, []Subject{SubjectOf("", own)}, nil})
			}
			known.statements = slices.Concat(known.statements, whole.statements)
			known.refused = slices.Concat(known.refused, whole.refused)
			verdict = p.judge(own, known)
		}
		verdict.Platform = platform.Key(e.Platform)
		all = append(all, verdict)
	}
	return all, nil
}

// without returns the policy without a requirement.
func (p Policy) without(what string) Policy {
	p.Require = slices.DeleteFunc(slices.Clone(p.Require), func(r string) bool { return r == what })
	return p
}

// images returns the images to verify. A wanted platform that is missing is an error.
func (p Policy) images(c manifest.Content) ([]manifest.Entry, error) {
	entries, err := manifest.Identified(c)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e manifest.Entry) bool { return e.Kind != manifest.KindImage })
	if len(p.Platforms) == 0 {
		return entries, nil
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, platform.Key(e.Platform))
	}
	var wanted []manifest.Entry
	for _, want := range p.Platforms {
		at := slices.Index(keys, platform.Key(want))
		if at < 0 {
			return nil, &manifest.PlatformError{Ref: "the image", Want: []ocispec.Platform{want}, Have: keys}
		}
		wanted = append(wanted, entries[at])
	}
	return wanted, nil
}

// gather reads the bundles that refer to a subject, and keeps the statements of those whose
// signature holds.
func (p Policy) gather(ctx context.Context, i Image, subject v1.Hash) (evidence, error) {
	var e evidence
	list, err := i.Referrers(ctx, subject)
	if err != nil {
		return e, fmt.Errorf("referrers of %s: %w", subject, err)
	}
	if len(list) > maxReferrers {
		return e, fmt.Errorf("%s has %d referrers, more than %d: %w", subject, len(list), maxReferrers, manifest.ErrMismatch)
	}
	for _, d := range list {
		switch {
		case isSBOMType(d.ArtifactType):
			e.sboms = append(e.sboms, d.Digest)
		case sign.IsBundle(d.ArtifactType) && p.needs(PredicateOf(d)):
			c, err := i.Get(ctx, d.Digest)
			if errors.Is(err, manifest.ErrNotFound) { // the list is older than its content
				e.refused = append(e.refused, "a signed statement that is listed was deleted")
				continue
			}
			if err != nil {
				return e, fmt.Errorf("%s: %w", d.Digest, err)
			}
			s, err := p.statement(ctx, c, subject)
			switch {
			// A program that is not installed says nothing about the signature.
			case errors.Is(err, manifest.ErrMismatch) || errors.Is(err, hint.Usage) || ctx.Err() != nil:
				return e, fmt.Errorf("%s: %w", d.Digest, err)
			case err != nil:
				e.refused = append(e.refused, reason(err))
			default:
				e.statements = append(e.statements, s)
			}
		}
	}
	return e, nil
}

// simple reports whether a signature under cosign's tag of a subject holds. The tag is read
// only if a signature is required and no bundle has one.
func (p Policy) simple(ctx context.Context, i Image, subject v1.Hash, e *evidence) (bool, error) {
	if p.OpenSimple == nil || !slices.Contains(p.Require, RequireSignature) || len(e.about(subject, PredicateSignature)) > 0 {
		return false, nil
	}
	tag := manifest.ReferrersTag(subject) + sign.SimpleSuffix
	c, err := i.Tagged(ctx, tag)
	if errors.Is(err, manifest.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", tag, err)
	}
	img, ok := c.(v1.Image)
	if !ok {
		return false, nil
	}
	m, err := img.Manifest()
	if err != nil {
		return false, err
	}
	if len(m.Layers) > maxReferrers {
		return false, fmt.Errorf("%s has %d signatures, more than %d: %w", tag, len(m.Layers), maxReferrers, manifest.ErrMismatch)
	}
	for _, d := range m.Layers {
		err := p.simpleLayer(img, d, subject)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, manifest.ErrMismatch) || ctx.Err() != nil:
			return false, fmt.Errorf("%s: %w", tag, err)
		}
		e.refused = append(e.refused, reason(err))
	}
	return false, nil
}

// simpleLayer returns why a layer is no signature of a subject that holds, or nil.
func (p Policy) simpleLayer(img v1.Image, d v1.Descriptor, subject v1.Hash) error {
	signature, err := base64.StdEncoding.DecodeString(d.Annotations[sign.SimpleAnnotation])
	if err != nil || len(signature) == 0 || d.MediaType != sign.SimpleType {
		return errors.New("a layer of a signature's tag is no signature")
	}
	if d.Size > sign.MaxSimple {
		return fmt.Errorf("the content of a signature has %d bytes, more than %d", d.Size, sign.MaxSimple)
	}
	content, err := readLayer(img, d)
	if err != nil {
		return err
	}
	digest, err := p.OpenSimple(content, signature)
	if err == nil && digest != subject.String() {
		err = errors.New("a signature is about another image")
	}
	return err
}

// reason returns the text of an error, safe to print.
func reason(err error) string {
	return text.Line(err.Error(), maxOutput)
}

// needs reports whether the policy requires something of statements with a predicate type, as
// a list of referrers names it. One without a name is read.
func (p Policy) needs(predicateType string) bool {
	required := func(what string) bool { return slices.Contains(p.Require, what) }
	switch predicateType {
	case PredicateSignature:
		return required(RequireSignature) || required(RequireSBOM)
	case PredicateProvenance:
		return required(RequireProvenance) || required(RequireSBOM)
	}
	return predicateType == "" || required(RequireSBOM)
}

// isSBOMType reports whether an artifact type is that of an SBOM of mabuild.
func isSBOMType(artifactType string) bool {
	return artifactType == SPDX.MediaType() || artifactType == CycloneDX.MediaType()
}

// statement returns the statement in a referrer if its signature holds and it names
// subject.
func (p Policy) statement(ctx context.Context, c manifest.Content, subject v1.Hash) (Statement, error) {
	raw, err := bundleIn(c)
	if err != nil {
		return Statement{}, err
	}
	text, err := p.Open(ctx, raw, subject)
	if err != nil {
		return Statement{}, err
	}
	s, err := ParseStatement(text)
	if err == nil && !s.About(subject) {
		err = errors.New("a signed statement is about another image")
	}
	return s, err
}

// bundleIn returns the bundle in an artifact.
func bundleIn(c manifest.Content) ([]byte, error) {
	img, ok := c.(v1.Image)
	if !ok {
		return nil, errors.New("a bundle is in no image")
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		if !sign.IsBundle(string(d.MediaType)) {
			continue
		}
		if d.Size > sign.MaxBundle {
			return nil, fmt.Errorf("a bundle has %d bytes, more than %d", d.Size, sign.MaxBundle)
		}
		return readLayer(img, d)
	}
	return nil, errors.New("an artifact has no bundle")
}

// judge compares what is known about a subject with the policy.
func (p Policy) judge(subject v1.Hash, known evidence) Verdict {
	v := Verdict{Digest: subject, Verified: []string{}}
	for _, what := range p.Require {
		why := ""
		switch what {
		case RequireSignature:
			if len(known.about(subject, PredicateSignature)) == 0 {
				why = "no signature"
				if len(known.refused) > 0 {
					why = "no valid signature"
				}
			}
		case RequireProvenance:
			list := known.about(subject, PredicateProvenance)
			if why = p.judgeProvenance(&v, list); why != "" && len(list) > 0 {
				// A valid signature says the wrong thing, so other signatures are not the reason.
				v.Missing = append(v.Missing, why)
				continue
			}
		case RequireSBOM:
			if !known.hasSBOM(subject) {
				why = "no signed SBOM"
			}
		}
		if why == "" {
			v.Verified = append(v.Verified, what)
			continue
		}
		if len(known.refused) > 0 {
			why += ": " + strings.Join(slices.Compact(slices.Sorted(slices.Values(known.refused))), "; ")
		}
		v.Missing = append(v.Missing, why)
	}
	return v
}

// about returns the signed statements of a type that name a subject.
func (e evidence) about(subject v1.Hash, predicateType string) []Statement {
	var list []Statement
	for _, s := range e.statements {
		if s.About(subject) && s.PredicateType == predicateType {
			list = append(list, s)
		}
	}
	return list
}

// hasSBOM reports whether a signed statement is an SBOM of the subject, or names one of the
// SBOMs that refer to it as that of the subject. The registry's list says which these are; the
// statement has their digests and, in the names, whose they are.
func (e evidence) hasSBOM(subject v1.Hash) bool {
	return slices.ContainsFunc(e.statements, func(s Statement) bool {
		predicate := strings.ToLower(s.PredicateType)
		isSBOM := strings.Contains(predicate, "spdx") || strings.Contains(predicate, "cyclonedx")
		return s.About(subject) && (isSBOM || slices.ContainsFunc(e.sboms, func(sbom v1.Hash) bool { return s.pairs(subject, sbom) }))
	})
}

// judgeProvenance returns why no statement satisfies the policy, or "". Of the one that does
// it keeps where the sources came from.
func (p Policy) judgeProvenance(v *Verdict, list []Statement) string {
	why := "no signed provenance"
	for _, s := range list {
		source, ref, builder, err := sourceOf(s.Predicate)
		switch {
		case err != nil:
			why = "the provenance is not valid"
		case p.Source != "" && source == "":
			why = "the provenance has no source, as of a push outside a git checkout"
		case p.Source != "" && bare(source) != bare(p.Source):
			why = fmt.Sprintf("the source is %s, not %s", shown(source), shown(p.Source))
		case p.Ref != "" && ref != p.Ref:
			why = fmt.Sprintf("the git reference is %s, not %s", shown(ref), shown(p.Ref))
		case p.Builder != "" && builder != p.Builder:
			why = fmt.Sprintf("the builder is %s, not %s", shown(builder), shown(p.Builder))
		default:
			v.Source, v.Ref, v.Builder = shown(source), shown(ref), shown(builder)
			return ""
		}
	}
	return why
}

// shown returns a text of a predicate, safe to print.
func shown(s string) string {
	if s == "" {
		return "unknown"
	}
	return text.Line(s, maxReason)
}

// bare removes what does not matter in the address of a repository.
func bare(source string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(source, "git+"), "/"), ".git")
}

// sourceOf returns the repository, the git reference and the builder of a provenance: of
// mabuild, or of a workflow of GitHub (actions/attest).
func sourceOf(predicate []byte) (source, ref, builder string, err error) {
	var p struct {
		BuildDefinition struct {
			ExternalParameters struct {
				Source   any `json:"source"`
				Workflow struct {
					Repository string `json:"repository"`
					Ref        string `json:"ref"`
				} `json:"workflow"`
			} `json:"externalParameters"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return "", "", "", err
	}
	parameters := p.BuildDefinition.ExternalParameters
	builder = p.RunDetails.Builder.ID
	if parameters.Workflow.Repository != "" {
		return parameters.Workflow.Repository, parameters.Workflow.Ref, builder, nil
	}
	source, _ = parameters.Source.(string)
	// The reference follows the last @ after the path began: ssh://git@host/path@ref.
	if at := strings.LastIndex(source, "@"); at > strings.LastIndex(source, "://")+3 && strings.HasPrefix(source[at+1:], "refs/") {
		source, ref = source[:at], source[at+1:]
	}
	return source, ref, builder, nil
}
