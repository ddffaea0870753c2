package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/hint"
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

func encoded(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// noPassword fails the test if a password is asked for.
func noPassword(t *testing.T) func() ([]byte, error) {
	return func() ([]byte, error) { t.Error("a password was asked for"); return nil, nil }
}

// Each kind of key signs the same bundle twice, which its public key accepts and another
// refuses, as it does after any change of the statement.
func TestKeys(t *testing.T) {
	t.Parallel()
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	other := must(ParsePublic(must(os.ReadFile("../../testdata/keys/other.pub"))(t)))(t)
	for name, c := range map[string]struct {
		text   []byte
		public crypto.PublicKey
	}{
		"P-256 PKCS#8":   {encoded("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(p256))(t)), p256.Public()},
		"P-256 SEC 1":    {encoded("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p256))(t)), p256.Public()},
		"P-384 PKCS#8":   {encoded("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(p384))(t)), p384.Public()},
		"Ed25519 PKCS#8": {encoded("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))(t)), ed.Public()},
		"RSA PKCS#8":     {encoded("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(r))(t)), r.Public()},
		"RSA PKCS#1":     {encoded("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), r.Public()},
	} {
		key := must(Parse(c.text, noPassword(t)))(t)
		public := must(ParsePublic(encoded("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(c.public))(t))))(t)
		statement := []byte(`{"_type":"x"}`)
		bundle := must(key.Sign(t.Context(), statement))(t)
		if again := must(key.Sign(t.Context(), statement))(t); !bytes.Equal(bundle, again) {
			t.Errorf("%s: two bundles differ", name)
		}
		b := must(ParseBundle(bundle))(t)
		if got, err := b.Statement([]*PublicKey{other, public}); err != nil || !bytes.Equal(got, statement) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if _, err := b.Statement([]*PublicKey{other}); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: another key: %v", name, err)
		}
		b.Envelope.Payload = []byte(`{"_type":"y"}`)
		if _, err := b.Statement([]*PublicKey{public}); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: another statement: %v", name, err)
		}
	}
}

// An encrypted key of cosign 3 gives this bundle, the same on every machine.
func TestEncryptedKey(t *testing.T) {
	t.Parallel()
	text := must(os.ReadFile("../../testdata/keys/cosign.key"))(t)
	key := must(Parse(text, func() ([]byte, error) { return []byte("pw"), nil }))(t)
	bundle := must(key.Sign(t.Context(), []byte(`{"_type":"x"}`)))(t)
	const want = "6506f64c0e9fb898f813a463fa65fc750a21eba772d2ce28eb1555b71388fbc6"
	if sum := sha256.Sum256(bundle); hex.EncodeToString(sum[:]) != want {
		t.Errorf("bundle %x, want %s:\n%s", sum, want, bundle)
	}
	public := must(ParsePublic(must(os.ReadFile("../../testdata/keys/cosign.pub"))(t)))(t)
	if must(public.ID())(t) != must(key.Public().ID())(t) {
		t.Error("the public key is another one")
	}
	asked := errors.New("asked")
	if _, err := Parse(text, func() ([]byte, error) { return nil, asked }); !errors.Is(err, asked) {
		t.Error(err)
	}
	_, err := Parse(text, func() ([]byte, error) { return []byte("wrong"), nil })
	if hint.KindOf(err) != hint.Credentials {
		t.Errorf("wrong password: %v", err)
	}
}

// A file that holds no usable key is a usage error, and the error shows nothing of it.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))(t)
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	const cosigns = "ENCRYPTED SIGSTORE PRIVATE KEY"
	for name, c := range map[string]struct{ text, want string }{
		"empty":             {"", "no private key in PEM format"},
		"no PEM":            {"s3cret", "no private key in PEM format"},
		"public key":        {string(must(os.ReadFile("../../testdata/keys/cosign.pub"))(t)), "a public key cannot sign"},
		"certificate":       {string(encoded("CERTIFICATE", []byte("s3cret"))), "a public key cannot sign"},
		"PKCS#8, encrypted": {string(encoded("ENCRYPTED PRIVATE KEY", nil)), "PKCS#8 with a password is not supported"},
		"OpenSSH":           {string(encoded("OPENSSH PRIVATE KEY", nil)), "keys of OpenSSH are not supported"},
		"garbage":           {string(encoded("PRIVATE KEY", []byte("s3cret"))), "the private key cannot be read"},
		"another block":     {string(encoded("S3CRET", []byte("s3cret"))), "the private key cannot be read"},
		"P-224":             {string(encoded("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p224))(t))), "the curve P-224 is not supported"},
		"P-521":             {string(encoded("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p521))(t))), "the curve P-521 is not supported"},
		"box of garbage":    {string(encoded(cosigns, []byte("s3cret"))), "the encrypted key is broken"},
		"box without kdf":   {string(encoded(cosigns, []byte("{}"))), "the encrypted key is broken"},
		"2 GiB of scrypt": {string(encoded(cosigns, []byte(`{"kdf":{"name":"scrypt","params":{"N":2097152,"r":8,"p":1}},
			"cipher":{"name":"nacl/secretbox","nonce":"`+strings.Repeat("A", 32)+`"}}`))), "the encrypted key is broken"},
		"odd N": {string(encoded(cosigns, []byte(`{"kdf":{"name":"scrypt","params":{"N":3,"r":8,"p":1}},
			"cipher":{"name":"nacl/secretbox","nonce":"`+strings.Repeat("A", 32)+`"}}`))), "the encrypted key is broken: scrypt: N must be > 1 and a power of 2"},
	} {
		_, err := Parse([]byte(c.text), func() ([]byte, error) { return []byte("pw"), nil })
		if err == nil || err.Error() != c.want || hint.KindOf(err) != hint.Usage || hint.Of(err) == "" {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for name, text := range map[string]string{
		"private": string(must(os.ReadFile("../../testdata/keys/cosign.key"))(t)), "no PEM": "x", "garbage": string(encoded("PUBLIC KEY", []byte("x"))),
	} {
		if _, err := ParsePublic([]byte(text)); hint.KindOf(err) != hint.Usage {
			t.Errorf("%s as a public key: %v", name, err)
		}
	}
}

// What is no bundle of a signed statement is invalid content.
func TestBadBundles(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"too large":     strings.Repeat(" ", MaxBundle+1),
		"no JSON":       "<html>",
		"another type":  `{"mediaType":"application/json"}`,
		"no envelope":   `{"mediaType":"` + BundleType + `","messageSignature":{}}`,
		"no signature":  `{"mediaType":"` + BundleType + `","dsseEnvelope":{"payloadType":"` + StatementType + `","payload":"e30="}}`,
		"not in-toto":   `{"mediaType":"` + BundleType + `","dsseEnvelope":{"payloadType":"text/plain","payload":"e30=","signatures":[{"sig":"AA=="}]}}`,
		"broken base64": `{"mediaType":"` + BundleType + `","dsseEnvelope":{"payloadType":"` + StatementType + `","payload":"-","signatures":[{"sig":"AA=="}]}}`,
	} {
		if _, err := ParseBundle([]byte(raw)); hint.KindOf(err) != hint.Content {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The signature covers type and length of the payload as in the specification of DSSE
// (protocol.md, "Test Vectors").
func TestEncode(t *testing.T) {
	if got := string(encode("http://example.com/HelloWorld", []byte("hello world"))); got != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Error(got)
	}
}

// A bundle is parsed without a panic, and no garbage is signed.
func FuzzParseBundle(f *testing.F) {
	f.Add([]byte(`{"mediaType":"` + BundleType + `","dsseEnvelope":{"payloadType":"` + StatementType + `","payload":"e30=","signatures":[{"sig":"AA=="}]}}`))
	public, err := os.ReadFile("../../testdata/keys/cosign.pub")
	if err != nil {
		f.Fatal(err)
	}
	key, err := ParsePublic(public)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := ParseBundle(raw)
		if err != nil {
			return
		}
		if _, err := b.Statement([]*PublicKey{key}); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", raw, err)
		}
		if _, err := json.Marshal(b); err != nil {
			t.Error(err)
		}
	})
}

// A key is parsed without a panic, and one that is accepted signs. No garbage costs a
// password.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"plain.key", "cosign.key", "cosign.pub"} {
		text, err := os.ReadFile("../../testdata/keys/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	none := errors.New("no password")
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := Parse(text, func() ([]byte, error) { return nil, none }); err == nil {
			if _, err := key.Sign(t.Context(), []byte("{}")); err != nil {
				t.Error(err)
			}
		}
		_, _ = ParsePublic(text)
	})
}

// Content that a key has signed for another purpose is no signature of an image.
func TestSimple(t *testing.T) {
	t.Parallel()
	der := must(x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))))(t)
	key := must(Parse(encoded("PRIVATE KEY", der), noPassword(t)))(t)
	keys := []*PublicKey{key.Public()}
	content, signature, err := key.SimpleSigning("example.com/app", "sha256:00")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Simple(content, signature, keys); got != "sha256:00" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := Simple(append(content, ' '), signature, keys); got != "" || !errors.Is(err, ErrUnsigned) {
		t.Errorf("altered: got %s, %v", got, err)
	}
	if got, err := Simple(content, signature, nil); got != "" || !errors.Is(err, ErrUnsigned) {
		t.Errorf("no key: got %s, %v", got, err)
	}
	for _, text := range []string{`{"critical":{"image":{"docker-manifest-digest":"sha256:00"},"type":"atomic"}}`, `[]`} {
		signed := must(key.sign([]byte(text)))(t)
		if got, err := Simple([]byte(text), signed, keys); got != "" || err == nil || errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
}

// What cosign asks a person is shown while it waits, without secrets and bounded.
func TestCosignIsShown(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	script := `#!/bin/sh
printf 'Enter the code AB' >&2
sleep 0.1
echo 'CD at https://example.com/device' >&2
printf 'with s3cret \033[2J\n\n'
head -c 5000 /dev/zero | tr '\0' x
echo
printf 'no line'
exit 1
`
	if err := os.WriteFile(filepath.Join(dir, "cosign"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var lines []string
	c := Cosign{
		Args: []string{"--identity-token=s3cret"}, Dir: func(context.Context) (string, error) { return dir, nil },
		Show: func(line string) { lines = append(lines, line) },
	}
	if _, err := c.Sign(t.Context(), []byte("{}")); err == nil || !strings.Contains(err.Error(), "no line") {
		t.Error(err)
	}
	if len(lines) != 3 || lines[0] != "Enter the code ABCD at https://example.com/device" || lines[1] != "with … [2J" || len(lines[2]) != maxOutput {
		t.Errorf("%q", lines)
	}
}
