package publish

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/manifest"
)

// legacy stores a signature of the content and of each image under the tags sha256-….sig,
// which podman, skopeo and CRI-O read for the image that they pull.
func (r *run) legacy(ctx context.Context, repo string, out *Result) error {
	key, ok := r.Signer.(*sign.Key)
	if !ok {
		return errors.New("signatures in the legacy format require a local key")
	}
	digests := []v1.Hash{out.Digest}
	for _, i := range out.subjects() {
		digest, err := i.Digest()
		if err != nil {
			return err
		}
		digests = append(digests, digest)
	}
	for _, digest := range digests {
		if err := r.addSignature(ctx, key, repo, digest); err != nil {
			return err
		}
	}
	return nil
}

// addSignature adds a signature to those under the tag of a digest. The registry has no
// conditional PUT: of two programs that add one at once, the later wins.
func (r *run) addSignature(ctx context.Context, key *sign.Key, repo string, digest v1.Hash) error {
	parsed, err := name.NewRepository(repo)
	if err != nil {
		return err
	}
	signed, sig, err := key.SimpleSigning(parsed.Name(), digest.String())
	if err != nil {
		return err
	}
	tag := repo + ":" + manifest.ReferrersTag(digest) + sign.SimpleSuffix
	signatures := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	switch there, err := r.Client.Get(ctx, tag); {
	case errors.Is(err, manifest.ErrNotFound):
	case err != nil:
		return err
	default:
		if img, ok := there.(v1.Image); ok {
			signatures = img
		}
	}
	m, err := signatures.Manifest()
	if err != nil {
		return err
	}
	encoded := base64.StdEncoding.EncodeToString(sig)
	if slices.ContainsFunc(m.Layers, func(d v1.Descriptor) bool { return d.Annotations[sign.SimpleAnnotation] == encoded }) {
		return nil
	}
	signatures, err = mutate.Append(signatures, mutate.Addendum{
		Layer: static.NewLayer(bytes.Clone(signed), sign.SimpleType), MediaType: sign.SimpleType, Annotations: map[string]string{sign.SimpleAnnotation: encoded},
	})
	if err != nil {
		return err
	}
	return r.put(ctx, tag, signatures)
}
