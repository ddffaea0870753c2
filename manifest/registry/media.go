package registry

import (
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

// accepted is the Accept header of a request for a manifest. Docker's schema 1 is not in
// it, since it cannot be stored by digest without changes; a registry that sends it all
// the same gets an error.
var accepted = strings.Join([]string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ", ")

// mismatch returns a [manifest.ErrMismatch]: content contradicts its digest, size, media
// type or format.
func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), manifest.ErrMismatch)
}

// plainType returns a Content-Type without parameters. General types, which a server
// gives to a file that it does not know, are "": the manifest's own mediaType then
// decides.
func plainType(header string) types.MediaType {
	plain, _, err := mime.ParseMediaType(header)
	if err != nil {
		plain = strings.TrimSpace(header)
	}
	switch plain {
	case "application/octet-stream", "binary/octet-stream", "application/json", "text/plain":
		return ""
	}
	return types.MediaType(plain)
}

// contentDigest is the header with the digest of the content that an answer is about
// (distribution-spec, "Pulling manifests" and "Pushing Manifests").
const contentDigest = "Docker-Content-Digest"

// digestPattern is the form of a digest with any algorithm (image-spec, descriptor.md,
// "Digests").
var digestPattern = regexp.MustCompile(`^[a-z0-9]+([+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+$`)

// stated compares the digest in an answer's header with want. named is true if there is a
// valid digest; wrong is true if it contradicts want. A registry may use another
// algorithm than the request: such a digest is named and not wrong, since it cannot be
// compared with want.
func stated(h http.Header, want v1.Hash) (named, wrong bool) {
	text := h.Get(contentDigest)
	said, err := v1.NewHash(text)
	if err == nil {
		return true, said.Algorithm == want.Algorithm && said != want
	}
	algorithm, _, _ := strings.Cut(text, ":")
	_, known := v1.Hasher(algorithm)
	return known != nil && digestPattern.MatchString(text), false
}

// digestOf returns the digest of b by algorithm.
func digestOf(algorithm string, b []byte) (v1.Hash, error) {
	hasher, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, err
	}
	_, _ = hasher.Write(b) // a hash never fails
	return v1.Hash{Algorithm: algorithm, Hex: fmt.Sprintf("%x", hasher.Sum(nil))}, nil
}
