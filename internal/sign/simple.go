package sign

import "encoding/json"

// The layer of a signature in the form of cosign 2 (cosign, specs/SIGNATURE_SPEC.md), which
// stands in an image under the tag of its subject with the suffix SimpleSuffix.
const (
	SimpleType       = "application/vnd.dev.cosign.simplesigning.v1+json"
	SimpleAnnotation = "dev.cosignproject.cosign/signature" // the signature in base64
	SimpleSuffix     = ".sig"
)

// MaxSimple bounds the content of such a layer that is read, in bytes.
const MaxSimple = 64 << 10

// simpleKind is the type of what is signed.
const simpleKind = "cosign container image signature"

// A simpleSigning is what such a signature signs (containers/image, containers-signature.5).
type simpleSigning struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// SimpleSigning returns the content of a layer that signs the digest of an image in a
// repository, and its signature.
func (k *Key) SimpleSigning(repository, digest string) (content, signature []byte, err error) {
	var p simpleSigning
	p.Critical.Identity.Reference, p.Critical.Image.Digest, p.Critical.Type = repository, digest, simpleKind
	if content, err = json.Marshal(p); err != nil {
		return nil, nil, err
	}
	signature, err = k.sign(content)
	return content, signature, err
}

// Simple returns the digest that the content of a layer signs, if one of the keys has signed
// it. The repository that it names is not compared: mirrors copy signatures.
func Simple(content, signature []byte, keys []*PublicKey) (digest string, err error) {
	for _, k := range keys {
		if !k.verify(content, signature) {
			continue
		}
		var p simpleSigning
		if err := json.Unmarshal(content, &p); err != nil || p.Critical.Type != simpleKind {
			return "", broken("the signed content is not that of an image's signature")
		}
		return p.Critical.Image.Digest, nil
	}
	return "", ErrUnsigned
}
