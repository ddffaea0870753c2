package registry

import (
	"encoding/json"
	"errors"
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

// mediaType returns the media type of a manifest, on which the header that came
// with it, the document itself and the descriptor that led to it must agree;
// header and descriptor may be silent. A document that could be read as an image
// as well as an index is refused (CVE-2021-41190).
func mediaType(raw []byte, header string, descriptor types.MediaType) (types.MediaType, error) {
	var shape struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &shape); err != nil {
		return "", mismatch("not a manifest: %w", err)
	}
	sent := types.MediaType(plainType(header))
	index, image := shape.Manifests != nil, shape.Config != nil || shape.Layers != nil
	switch {
	case shape.SchemaVersion == 1 || sent.IsSchema1():
		return "", manifest.ErrObsolete
	case index && image || shape.FSLayers != nil:
		return "", mismatch("a manifest that is both an image and an index")
	case !index && !image:
		return "", mismatch("neither an image nor an index")
	}
	if err := errors.Join(manifest.CheckEntries(shape.Manifests), manifest.CheckEntries(shape.Layers)); err != nil {
		return "", err
	}
	found := shape.MediaType
	for _, claim := range []types.MediaType{sent, descriptor} {
		switch {
		case found == "":
			found = claim
		case claim != "" && claim != found:
			return "", mismatch("media type %s against %s", clean(string(claim)), clean(string(found)))
		}
	}
	if found == "" {
		if found = types.OCIManifestSchema1; index {
			found = types.OCIImageIndex
		}
	}
	if index && !found.IsIndex() || image && !found.IsImage() {
		return "", mismatch("media type %s does not fit the document", clean(string(found)))
	}
	return found, nil
}

// plainType returns a Content-Type without its parameters.
func plainType(header string) string {
	plain, _, err := mime.ParseMediaType(header)
	if err != nil {
		return strings.TrimSpace(header)
	}
	return plain
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
