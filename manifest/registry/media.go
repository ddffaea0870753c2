package registry

import (
	"fmt"
	"mime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

// accepted is the Accept of a manifest request. Schema 1 is not in it; whoever
// sends it all the same gets a clear refusal.
var accepted = strings.Join([]string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ", ")

// mismatch makes an error about content that contradicts its claim.
func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), manifest.ErrMismatch)
}

// plainType returns a Content-Type without its parameters.
func plainType(header string) types.MediaType {
	plain, _, err := mime.ParseMediaType(header)
	if err != nil {
		plain = strings.TrimSpace(header)
	}
	return types.MediaType(plain)
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
