package publish

import (
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
	var digests []v1.Hash
	for _, i := range out.subjects() {
		digest, err := i.Digest()
		if err != nil {
			return err
		}
		digests = append(digests, digest)
	}
	for _, digest := range append(digests, out.Digest) { // the index last, see hasLegacy
		if err := r.addSignature(ctx, key, repo, digest); err != nil {
			return err
		}
	}
	return nil
}

// hasLegacy reports whether a digest has the key's signature under its tag. Then its images have
// theirs, too.
func (r *run) hasLegacy(ctx context.Context, repo string, digest v1.Hash) (bool, error) {
	key, ok := r.Signer.(*sign.Key)
	if !ok {
		return false, nil
	}
	_, signature, err := r.simple(key, repo, digest)
	if err != nil {
		return false, err
	}
	there, err := r.signatures(ctx, repo, digest)
	if err != nil {
		return false, err
	}
	m, err := there.Manifest()
	return err == nil && holds(m, signature), err
}

// simple returns what is signed of a digest in a repository, and the signature in base64.
func (r *run) simple(key *sign.Key, repo string, digest v1.Hash) (content []byte, signature string, err error) {
	parsed, err := name.NewRepository(repo)
	if err != nil {
		return nil, "", err
	}
	content, raw, err := key.SimpleSigning(parsed.Name(), digest.String())
	return content, base64.StdEncoding.EncodeToString(raw), err
}

// signatures returns the image with the signatures of a digest, without layers if there is none.
func (r *run) signatures(ctx context.Context, repo string, digest v1.Hash) (v1.Image, error) {
	none := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	there, err := r.Client.Get(ctx, signatureTag(repo, digest))
	if errors.Is(err, manifest.ErrNotFound) {
		return none, nil
	}
	if img, ok := there.(v1.Image); ok && err == nil {
		return img, nil
	}
	return none, err
}

// signatureTag returns the reference of the signatures of a digest.
func signatureTag(repo string, digest v1.Hash) string {
	return repo + ":" + manifest.ReferrersTag(digest) + sign.SimpleSuffix
}

// holds reports whether a signature is among those of an image.
func holds(m *v1.Manifest, signature string) bool {
	return slices.ContainsFunc(m.Layers, func(d v1.Descriptor) bool { return d.Annotations[sign.SimpleAnnotation] == signature })
}

// addSignature adds a signature to those under the tag of a digest. The registry has no
// conditional PUT: of two programs that add one at once, the later wins.
func (r *run) addSignature(ctx context.Context, key *sign.Key, repo string, digest v1.Hash) error {
	content, signature, err := r.simple(key, repo, digest)
	if err != nil {
		return err
	}
	signatures, err := r.signatures(ctx, repo, digest)
	if err != nil {
		return err
	}
	m, err := signatures.Manifest()
	if err != nil || holds(m, signature) {
		return err
	}
	signatures, err = mutate.Append(signatures, mutate.Addendum{
		Layer: static.NewLayer(content, sign.SimpleType), MediaType: sign.SimpleType, Annotations: map[string]string{sign.SimpleAnnotation: signature},
	})
	if err != nil {
		return err
	}
	return r.put(ctx, signatureTag(repo, digest), signatures)
}
