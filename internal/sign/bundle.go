package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mabuild/mabuild/internal/hint"
)

// BundleType is the media type of the bundles that this package makes, and the artifact
// type of the manifests that hold them (sigstore protobuf-specs, bundle version 0.3).
const BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// bundlePrefix begins the media types of all versions of a bundle.
const bundlePrefix = "application/vnd.dev.sigstore.bundle"

// StatementType is the media type of an in-toto statement, which a DSSE envelope names as
// the type of its payload.
const StatementType = "application/vnd.in-toto+json"

// MaxBundle bounds a bundle that is read, in bytes.
const MaxBundle = 4 << 20

// IsBundle reports whether a media type is that of a bundle of sigstore.
func IsBundle(mediaType string) bool { return strings.HasPrefix(mediaType, bundlePrefix) }

// A Signer makes the bundle of a statement, which is JSON. What it returns has been
// compared with the statement.
type Signer interface {
	Sign(ctx context.Context, statement []byte) (bundle []byte, err error)
}

// A Bundle is a statement with its signature, as JSON. The fields that this package does
// not interpret, such as certificates, are left to cosign.
type Bundle struct {
	MediaType            string   `json:"mediaType"`
	VerificationMaterial material `json:"verificationMaterial"`
	Envelope             envelope `json:"dsseEnvelope"`
}

// A material says how the signature is checked. Of a key there is only a hint.
type material struct {
	PublicKey *keyHint `json:"publicKey,omitempty"`
}

type keyHint struct {
	Hint string `json:"hint"`
}

// An envelope is a payload with signatures (DSSE v1.0.2, envelope.md).
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig []byte `json:"sig"`
}

// Sign returns the bundle of a statement with the key's signature.
func (k *Key) Sign(_ context.Context, statement []byte) ([]byte, error) {
	id, err := k.Public().ID()
	if err != nil {
		return nil, err
	}
	sig, err := k.sign(encode(StatementType, statement))
	if err != nil {
		return nil, err
	}
	return json.Marshal(Bundle{
		MediaType: BundleType, VerificationMaterial: material{&keyHint{id}},
		Envelope: envelope{statement, StatementType, []signature{{sig}}},
	})
}

// encode returns what a signature of an envelope covers (DSSE v1.0.2, protocol.md,
// "Signature Definition").
func encode(payloadType string, content []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(content), content)
}

// ParseBundle reads a bundle, of any version, that holds an in-toto statement. Nothing is
// proven by that.
func ParseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > MaxBundle {
		return nil, broken("the bundle has %d bytes, more than %d", len(raw), MaxBundle)
	}
	b := &Bundle{}
	switch err := json.Unmarshal(raw, b); {
	case err != nil:
		return nil, broken("the bundle is not valid: %w", err)
	case !IsBundle(b.MediaType):
		return nil, broken("not a bundle of sigstore")
	case b.Envelope.PayloadType != StatementType || len(b.Envelope.Signatures) == 0:
		return nil, broken("the bundle has no signed statement")
	}
	return b, nil
}

// ErrUnsigned is in the chain of the error of content that no given key has signed as it is.
var ErrUnsigned = errors.New("signed by another key, or altered")

// Statement returns the statement if one of the keys has signed it.
func (b *Bundle) Statement(keys []*PublicKey) ([]byte, error) {
	message := encode(b.Envelope.PayloadType, b.Envelope.Payload)
	for _, k := range keys {
		for _, s := range b.Envelope.Signatures {
			if k.verify(message, s.Sig) {
				return b.Envelope.Payload, nil
			}
		}
	}
	return nil, ErrUnsigned
}

// broken is an error of content that is not what it claims to be.
func broken(format string, args ...any) error {
	return &hint.Error{Kind: hint.Content, Err: fmt.Errorf(format, args...)}
}
