// Package attest says what an image is made of, as a software bill of materials
// in SPDX or CycloneDX, and wraps that as an artifact that refers to the image.
//
// What it writes follows from the [Facts] alone: no clock, no random number and no
// setting of the host gets in, and all lists are sorted. Of what a program says of
// how it was built only what is listed here is copied, so that flags, which may hold
// a secret, are not.
package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// A Format is a way to write an SBOM.
type Format string

// The formats there are.
const (
	SPDX      Format = "spdx"      // 2.3, JSON
	CycloneDX Format = "cyclonedx" // 1.6, JSON
)

// MediaType is the media type of the document, and the type of the artifact that
// holds it.
func (f Format) MediaType() string {
	if f == CycloneDX {
		return "application/vnd.cyclonedx+json"
	}
	return "application/spdx+json"
}

// FileName is the name of the document about a program's image for p:
// NAME-os-arch[-variant].spdx.json or .cdx.json.
func (f Format) FileName(program string, p ocispec.Platform) string {
	extension := ".spdx.json"
	if f == CycloneDX {
		extension = ".cdx.json"
	}
	key := strings.NewReplacer("/", "-", ":", "-").Replace(platform.Key(p))
	return program + "-" + key + extension
}

// Facts are all that a document is made of.
type Facts struct {
	Name     string // of the program
	Version  string // of its module, where the build information has none
	Image    v1.Hash
	Platform ocispec.Platform
	Base     Base
	Info     *debug.BuildInfo // of the program, nil: it carries none
	Unread   []string         // what else is in the image and in no list, each a sentence
	Time     time.Time        // zero, or the beginning of 1970: not said
	Tool     string           // version of mabuild
}

// A Base is what the program was put on.
type Base struct {
	// Name is the base's reference without a digest; "" for one that has no name
	// elsewhere. Scratch is the zero Base.
	Name     string
	Digest   v1.Hash   // of its image for the platform, or of the built-in base's layer
	BuiltIn  bool      // mabuild's own
	Packages *Packages // nil: nobody looked
}

// Write writes the document about f's image.
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

// uuid identifies the document that says f in a format: equal facts have equal
// ones. It is of the version for custom schemes (RFC 9562, section 5.8).
func uuid(format Format, f Facts) (string, error) {
	f.Info = nil // the image's digest stands for that
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

// said is the time as documents have it, "" for none.
func said(t time.Time) string {
	if t.Unix() <= 0 {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
