// Package judge compares statements and bundles with the libraries of their specifications:
// in-toto/attestation and sigstore/protobuf-specs. It is a module of its own, so that they
// are no dependencies of mabuild.
package judge

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"runtime/debug"
	"testing"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	bundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/sign"
)

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func key(t *testing.T) *sign.Key {
	t.Helper()
	der := must(x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))))(t)
	return must(sign.Parse(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil))(t)
}

// statement returns a statement with all that the provenance of mabuild can have.
func statement(t *testing.T) []byte {
	t.Helper()
	digest := v1.Hash{Algorithm: "sha256", Hex: "ab00000000000000000000000000000000000000000000000000000000000000"}
	info := &debug.BuildInfo{GoVersion: "go1.26.1", Path: "example.com/app", Main: debug.Module{Path: "example.com/app"}, Deps: []*debug.Module{
		{Path: "golang.org/x/mod", Version: "v0.42.0", Sum: "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
	}}
	p := must(attest.NewProvenance(attest.Origin{
		Source: "git+https://github.com/acme/app@refs/tags/v1", Commit: "449c436ede28213abbb061c082f76145aa6b4c1d", Config: ".mabuild.yaml",
		Digest: digest.Hex, Build: "app", Main: ".", Platforms: []string{"linux/amd64"}, Base: map[string]string{"default": "debian:12"},
		Overrides: []string{"tags"}, Values: map[string]string{"tags": "v1"}, Builder: attest.LocalBuilder, Tool: "v1.0.0",
		Invocation: "https://ci.example/1", Started: "2026-01-01T00:00:00Z", Finished: "2026-01-01T00:01:00Z",
	}, []attest.Material{{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Base: attest.Base{Name: "debian:12", Digest: digest}, Info: info}}))(t)
	return must(attest.NewStatement(attest.PredicateProvenance, []attest.Subject{attest.SubjectOf("app", digest)}, p))(t)
}

// The library of in-toto reads the statement and its provenance, knows every field, and finds
// both valid.
func TestStatement(t *testing.T) {
	raw := statement(t)
	s := &intoto.Statement{}
	if err := protojson.Unmarshal(raw, s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	predicate := must(json.Marshal(s.GetPredicate().AsMap()))(t)
	p := &provenance.Provenance{}
	if err := protojson.Unmarshal(predicate, p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if got := p.GetBuildDefinition().GetBuildType(); got != attest.BuildType {
		t.Errorf("build type %s", got)
	}
	if n := len(p.GetBuildDefinition().GetResolvedDependencies()); n != 5 {
		t.Errorf("%d dependencies, want source, config, base, go and a module", n)
	}
}

// The library of sigstore reads the bundle, and knows every field.
func TestBundle(t *testing.T) {
	raw := must(key(t).Sign(t.Context(), statement(t)))(t)
	b := &bundle.Bundle{}
	if err := protojson.Unmarshal(raw, b); err != nil {
		t.Fatal(err)
	}
	envelope := b.GetDsseEnvelope()
	if !bytes.Equal(envelope.GetPayload(), statement(t)) || envelope.GetPayloadType() != sign.StatementType || len(envelope.GetSignatures()) != 1 {
		t.Errorf("%+v", envelope)
	}
	if id := must(key(t).Public().ID())(t); b.GetVerificationMaterial().GetPublicKey().GetHint() != id {
		t.Errorf("hint %s, want %s", b.GetVerificationMaterial().GetPublicKey().GetHint(), id)
	}
}

// A bundle that the library of sigstore has written is read, whatever blanks it writes.
func TestTheirBundle(t *testing.T) {
	ours := must(sign.ParseBundle(must(key(t).Sign(t.Context(), statement(t)))(t)))(t)
	theirs := &bundle.Bundle{
		MediaType: sign.BundleType,
		VerificationMaterial: &bundle.VerificationMaterial{
			Content: &bundle.VerificationMaterial_PublicKey{PublicKey: &common.PublicKeyIdentifier{Hint: "x"}},
		},
		Content: &bundle.Bundle_DsseEnvelope{DsseEnvelope: &dsse.Envelope{
			Payload: ours.Envelope.Payload, PayloadType: sign.StatementType,
			Signatures: []*dsse.Signature{{Keyid: "k", Sig: ours.Envelope.Signatures[0].Sig}},
		}},
	}
	b := must(sign.ParseBundle([]byte(protojson.Format(theirs))))(t)
	if got, err := b.Statement([]*sign.PublicKey{key(t).Public()}); err != nil || !bytes.Equal(got, statement(t)) {
		t.Errorf("%s, %v", got, err)
	}
}
