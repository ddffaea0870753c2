// Package attest describes what an image contains and how it was made, as documents that
// refer to it: a software bill of materials (SBOM) in SPDX or CycloneDX, the provenance of
// SLSA, and signed statements. [Policy.Verify] checks the statements about an image.
//
// A document depends on the [Facts] alone. No clock, random number or setting of the host
// is read, and all lists are sorted, so that a repeated build writes the same bytes. Of
// the build settings that a program carries, only those in a fixed list are copied:
// compiler and linker flags are left out, since they may hold a secret.
//
// The package does not analyse licences, vulnerabilities, C libraries that cgo links, or
// files that a user adds to the image. The document names what was not analysed. It does
// not push anything; internal/sign makes and checks the signatures.
package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Format is the format of an SBOM. A value other than the constants is written as SPDX.
type Format string

// The supported formats, by the names that users type.
const (
	SPDX      Format = "spdx"      // 2.3, JSON
	CycloneDX Format = "cyclonedx" // 1.6, JSON
)

// MediaType returns the registered media type of the document, which is also the
// artifactType of the artifact that holds it.
func (f Format) MediaType() string {
	if f == CycloneDX {
		return "application/vnd.cyclonedx+json"
	}
	return "application/spdx+json"
}

// PredicateType returns the predicate type of a statement with the document, as cosign's types
// spdxjson and cyclonedx have it.
func (f Format) PredicateType() string {
	if f == CycloneDX {
		return "https://cyclonedx.org/bom"
	}
	return "https://spdx.dev/Document"
}

// FileName returns the file name of the document about a program's image for platform p:
// NAME-os-arch[-variant].spdx.json or .cdx.json. Slashes and colons in the platform's key
// become dashes, so that the name is one path element if program is one.
func (f Format) FileName(program string, p ocispec.Platform) string {
	extension := ".spdx.json"
	if f == CycloneDX {
		extension = ".cdx.json"
	}
	key := strings.NewReplacer("/", "-", ":", "-").Replace(platform.Key(p))
	return program + "-" + key + extension
}

// Facts are the only input of a document. All fields but Info also go into the identifier
// of the document (see uuid), so a field that differs changes it.
type Facts struct {
	Name     string  // of the program; also the name of the image
	Version  string  // of the module, used if the build information has none
	Image    v1.Hash // digest of the manifest of the image for Platform
	Platform ocispec.Platform
	Base     Base
	Info     *debug.BuildInfo // of the program; nil if the binary carries none
	Program  v1.Hash          `json:",omitzero"`  // of a program that was not compiled from sources
	Packages []Package        `json:",omitempty"` // that were added to the base
	Unread   []string         // other content of the image that is not analysed, a sentence each
	Time     time.Time        // creation time; zero or before 1970-01-01T00:00:01Z means unset
	Tool     string           // version of mabuild
}

// A Base is the base image of the program. The zero Base stands for scratch.
type Base struct {
	// Name is the reference of the base without a digest. It is empty if the base has no
	// name outside of this build, such as an OCI layout on disk.
	Name     string
	Digest   v1.Hash   // of its image for the platform, or of the static base's layer
	Index    v1.Hash   `json:"-"` // of the index from which the image was chosen, else zero; an SBOM does not say it
	BuiltIn  bool      // the static base that mabuild generates
	Packages *Packages // nil if the packages of the base were not read
}

// Write returns the document about the image that f describes, as indented JSON with a
// final newline. It fails if a name or version cannot be written as a package URL.
func Write(format Format, f Facts) ([]byte, error) {
	inv, err := inventoryOf(f)
	if err != nil {
		return nil, err
	}
	if format == CycloneDX {
		return writeCycloneDX(f, inv)
	}
	return writeSPDX(f, inv)
}

// uuid returns the identifier of the document about f in a format. SPDX needs a unique
// namespace and CycloneDX a serial number; a random one would change the digest of the
// artifact in each run. So it is a hash of the facts in the layout of version 8, which is
// meant for custom schemes (RFC 9562, section 5.8): equal facts have equal identifiers.
func uuid(format Format, f Facts) (string, error) {
	f.Info = nil
	// Info is left out: the digest of the image covers it.
	b, err := json.Marshal([]any{format, f})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:]), nil
}

// said formats a time as both formats require it, in UTC with whole seconds. It returns
// "" for an unset time.
func said(t time.Time) string {
	if t.Unix() <= 0 {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Artifact wraps a document as an artifact that refers to subject. Its one layer is the
// document, titled name, and its artifactType is the media type of the format.
func Artifact(format Format, document []byte, name string, subject manifest.Content) (v1.Image, error) {
	return refer(subject, format.MediaType(), nil, layer{format.MediaType(), document, map[string]string{ocispec.AnnotationTitle: name}})
}

// A layer is the content of one layer of an artifact.
type layer struct {
	mediaType   string
	content     []byte
	annotations map[string]string
}

// refer makes an artifact that refers to subject (image-spec, manifest.md, "Guidelines for
// Artifact Usage"). Its config is the empty descriptor. The descriptor of subject is
// computed from subject's manifest, so nothing has to be pushed before. Equal arguments
// give equal digests. The image is only in memory: the caller pushes it, and a registry
// lists it among the referrers of subject.
func refer(subject manifest.Content, artifactType string, annotations map[string]string, layers ...layer) (v1.Image, error) {
	d, err := manifest.Describe(subject)
	if err != nil {
		return nil, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config:      ocispec.DescriptorEmptyJSON,
		Subject:     &ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size},
		Annotations: annotations,
	}
	blobs := artifact{}
	for _, l := range layers {
		own := digest.FromBytes(l.content)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: l.mediaType, Digest: own, Size: int64(len(l.content)), Annotations: l.annotations})
		blobs[own.String()] = l.content
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	own, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c, err := manifest.Open(v1.Descriptor{Digest: own}, raw, blobs)
	if err != nil {
		return nil, err
	}
	return c.(v1.Image), nil //nolint:forcetypeassert // it has a config
}

// An artifact has the layers of an artifact by digest. It implements the source behind
// [manifest.Open]; the image has no children.
type artifact map[string][]byte

// Name returns the digest, since the artifact has no other name in errors.
func (a artifact) Name(h v1.Hash) string { return h.String() }

// Config returns the empty JSON object, the config of an artifact.
func (a artifact) Config(v1.Descriptor) ([]byte, error) { return ocispec.DescriptorEmptyJSON.Data, nil }

// Blob returns a layer.
func (a artifact) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(a[d.Digest.String()])), nil
}

// Child always fails, since an image has no children.
func (a artifact) Child(d v1.Descriptor) (manifest.Content, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, manifest.ErrNotFound)
}
