package attest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/manifest"
)

// maxDocument bounds a document that is read, in bytes.
const maxDocument = 64 << 20

// ErrNoSBOM is in the chain of the error of [Read] about content that has no SBOM.
var ErrNoSBOM = errors.New("no SBOM that mabuild can read")

// A Document is an SBOM as it was found. Nobody has verified what it says.
type Document struct {
	Format Format
	Raw    []byte // JSON
}

// Read returns the SBOM in a referrer or in an attestation of BuildKit. The document is a
// layer by itself, or the predicate of an in-toto statement, which may be in a DSSE envelope
// or in a bundle of sigstore; no signature is checked. Documents of other formats than SPDX
// 2 and CycloneDX, both as JSON, are ErrNoSBOM. So are tag-value and XML documents.
func Read(c manifest.Content) (Document, error) {
	layers, err := jsonLayers(c)
	if err != nil {
		return Document{}, err
	}
	for _, raw := range layers {
		if doc, ok := documentIn(raw); ok {
			return doc, nil
		}
	}
	return Document{}, ErrNoSBOM
}

// jsonLayers returns the layers of an artifact that are JSON.
func jsonLayers(c manifest.Content) ([][]byte, error) {
	img, ok := c.(v1.Image)
	if !ok {
		return nil, nil
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, d := range m.Layers {
		if !strings.Contains(string(d.MediaType), "json") {
			continue
		}
		if d.Size > maxDocument {
			return nil, fmt.Errorf("the document %s has %d bytes, more than %d: %w", d.Digest, d.Size, maxDocument, manifest.ErrMismatch)
		}
		raw, err := readLayer(img, d)
		if err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// Find returns the SBOM among what describes an image: of the wanted format, or if that is
// "", SPDX rather than another. get reads what is described by a digest. The error about an
// image without such an SBOM wraps [ErrNoSBOM] and names the formats that there are.
func Find(list []manifest.Attached, want Format, get func(v1.Hash) (manifest.Content, error)) (Document, error) {
	// The order of referrers is that of the registry, so it does not decide.
	list = slices.SortedStableFunc(slices.Values(list), func(x, y manifest.Attached) int {
		return cmp.Or(strings.Compare(order(x), order(y)), strings.Compare(x.Digest.String(), y.Digest.String()))
	})
	var formats []string
	for _, attached := range list {
		if !IsSBOM(attached) {
			continue
		}
		c, err := get(attached.Digest)
		if err != nil {
			return Document{}, err
		}
		doc, err := Read(c)
		switch {
		case err == nil && (want == "" || doc.Format == want):
			return doc, nil
		case err == nil:
			formats = append(formats, string(doc.Format))
		case errors.Is(err, ErrNoSBOM):
			formats = append(formats, cmp.Or(attached.PredicateType, attached.ArtifactType))
		default:
			return Document{}, err
		}
	}
	if len(formats) > 0 {
		return Document{}, fmt.Errorf("%w as %s, only %s", ErrNoSBOM, cmp.Or(want, "spdx or cyclonedx"), text.Escape(strings.Join(formats, ", "), ""))
	}
	return Document{}, ErrNoSBOM
}

// IsSBOM reports whether a is an SBOM by what it calls itself.
func IsSBOM(a manifest.Attached) bool { return a.Kind == "sbom" }

// order sorts SPDX before other formats, and a document by itself before one in a bundle, whose
// blanks can differ.
func order(a manifest.Attached) string {
	key := "2"
	if strings.Contains(strings.ToLower(a.ArtifactType+a.PredicateType), "spdx") {
		key = "1"
	}
	if sign.IsBundle(a.ArtifactType) {
		key += "b"
	}
	return key
}

// readLayer returns the content of a layer whose size was checked.
func readLayer(img v1.Image, d v1.Descriptor) ([]byte, error) {
	layer, err := img.LayerByDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	return raw, errors.Join(err, r.Close())
}

// documentIn returns the SBOM in raw, without what it is wrapped in.
func documentIn(raw []byte) (doc Document, ok bool) {
	unwrap(raw, func(w wrapped, raw []byte) bool {
		switch {
		case strings.HasPrefix(w.SPDXVersion, "SPDX-2"):
			doc, ok = Document{Format: SPDX, Raw: raw}, true
		case w.BOMFormat == "CycloneDX":
			doc, ok = Document{Format: CycloneDX, Raw: raw}, true
		}
		return ok
	})
	return doc, ok
}

// A wrapped is a document or what it is wrapped in: a sigstore bundle has a DSSE envelope, an
// envelope has a statement, a statement has a predicate.
type wrapped struct {
	SPDXVersion   string          `json:"spdxVersion"`
	BOMFormat     string          `json:"bomFormat"`
	DSSEEnvelope  json.RawMessage `json:"dsseEnvelope"`
	PayloadType   string          `json:"payloadType"`
	Payload       []byte          `json:"payload"`
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// unwrap calls found for raw and for each thing in it, until found returns true.
func unwrap(raw []byte, found func(wrapped, []byte) bool) {
	for range 4 { // one more than there are wrappers
		var is wrapped
		if err := json.Unmarshal(raw, &is); err != nil || found(is, raw) {
			return
		}
		switch {
		case len(is.DSSEEnvelope) > 0:
			raw = is.DSSEEnvelope
		case is.PayloadType != "":
			raw = is.Payload
		case is.Type != "":
			raw = is.Predicate
		default:
			return
		}
	}
}

// ErrNoProvenance is in the chain of the error of [FindProvenance] about content that has
// none.
var ErrNoProvenance = errors.New("no provenance that mabuild can read")

// FindProvenance returns the predicate of the first provenance of SLSA, of any version, among
// what describes an image. get reads what is described by a digest. No signature is checked.
func FindProvenance(list []manifest.Attached, get func(v1.Hash) (manifest.Content, error)) (predicate []byte, err error) {
	for _, attached := range list {
		if attached.Kind != "provenance" {
			continue
		}
		c, err := get(attached.Digest)
		if err != nil {
			return nil, err
		}
		layers, err := jsonLayers(c)
		if err != nil {
			return nil, err
		}
		for _, raw := range layers {
			unwrap(raw, func(w wrapped, _ []byte) bool {
				if strings.HasPrefix(w.PredicateType, "https://slsa.dev/provenance/") {
					predicate = w.Predicate
				}
				return predicate != nil
			})
			if predicate != nil {
				return predicate, nil
			}
		}
	}
	return nil, ErrNoProvenance
}

// Versions returns the versions of a Go module that the document lists, sorted. The name of
// the standard library is stdlib. Capitals in the path do not matter, since package URLs
// have none.
func (d Document) Versions(module string) ([]string, error) {
	var doc struct {
		Packages []struct {
			ExternalRefs []struct {
				ReferenceLocator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
		Components []struct {
			PackageURL string `json:"purl"`
		} `json:"components"`
	}
	if err := json.Unmarshal(d.Raw, &doc); err != nil {
		return nil, fmt.Errorf("the document is not valid %s: %w", d.Format, err)
	}
	var found []string
	add := func(purl string) {
		if path, version, ok := goModule(purl); ok && strings.EqualFold(path, module) {
			found = append(found, version)
		}
	}
	for _, p := range doc.Packages {
		for _, ref := range p.ExternalRefs {
			add(ref.ReferenceLocator)
		}
	}
	for _, c := range doc.Components {
		add(c.PackageURL)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// goModule returns the path and version of a package URL of a Go module; the version may be
// empty.
func goModule(purl string) (path, version string, ok bool) {
	rest, ok := strings.CutPrefix(purl, "pkg:golang/")
	if !ok {
		return "", "", false
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	path, version, _ = strings.Cut(rest, "@")
	path, errPath := url.PathUnescape(path)
	version, errVersion := url.PathUnescape(version)
	return path, version, errors.Join(errPath, errVersion) == nil
}
