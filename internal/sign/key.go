// Package sign signs in-toto statements and checks their signatures: a [Signer] makes a
// bundle of sigstore (version 0.3) from a statement, and [Bundle.Statement] returns what
// such a bundle proves.
//
// A local [Key] signs in this process. Its signatures are deterministic, so the same
// statement and key give the same bundle: nothing is read from a clock or from a source of
// random numbers. [Cosign] has the program cosign sign, with an identity, a key management
// service or a token, which this package knows nothing about.
//
// The package does not check certificates, transparency logs or time stamps itself, and
// never writes a key or a password to a file, a log or an error.
package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/mabuild/mabuild/internal/hint"
)

// The bounds of a file of a key. Decrypting a key of cosign takes 64 MiB.
const (
	MaxKey    = 64 << 10  // bytes of a file with a key
	maxScrypt = 128 << 20 // bytes of memory that a password may cost
	minRSA    = 2048      // bits, as cosign demands
)

// A Key is a private key that signs in this process.
type Key struct{ private crypto.Signer }

// A PublicKey checks the signatures of one key.
type PublicKey struct{ public crypto.PublicKey }

// Parse reads a private key in PEM: of cosign, encrypted with a password, or in PKCS#8,
// SEC 1 or PKCS#1 without one. password is asked only for an encrypted key. Keys that
// cosign would refuse are refused: it supports ECDSA with P-256, P-384 and P-521,
// Ed25519, and RSA from 2048 bits on; the signatures here use SHA-256, which its default
// rules allow for P-256 and P-384 alone.
func Parse(text []byte, password func() ([]byte, error)) (*Key, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" { // as openssl ecparam writes it
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, bad("create one with cosign generate-key-pair", "no private key in PEM format")
	}
	if block.Headers["DEK-Info"] != "" {
		return nil, bad("remove the password with openssl, or import the key with cosign import-key-pair", "a key in the old format of OpenSSL with a password is not supported")
	}
	switch block.Type {
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		secret, err := password()
		if err != nil {
			return nil, err
		}
		der, err := decrypt(block.Bytes, secret)
		if err != nil {
			return nil, err
		}
		block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return nil, bad("use the private key; the public one is for mabuild verify --key", "a public key cannot sign")
	case "ENCRYPTED PRIVATE KEY":
		return nil, bad("import it with cosign import-key-pair", "PKCS#8 with a password is not supported")
	case "OPENSSH PRIVATE KEY":
		return nil, bad("create a key with cosign generate-key-pair", "keys of OpenSSH are not supported")
	}
	private, err := privateKey(block)
	if err != nil {
		return nil, err
	}
	if err := supported(private.Public()); err != nil {
		return nil, err
	}
	return &Key{private}, nil
}

// privateKey parses an unencrypted key. The parser's error is left out, since it could
// show bytes of the key.
func privateKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = errors.New("unknown block")
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, bad("use a key of ECDSA (P-256, P-384), Ed25519 or RSA", "the private key cannot be read")
	}
	return signer, nil
}

// supported refuses keys whose signatures cosign does not accept by default.
func supported(key crypto.PublicKey) error {
	const way = "use a key of ECDSA (P-256, P-384), Ed25519 or RSA from 2048 bits on"
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return bad(way, "the curve %s is not supported", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return bad(way, "an RSA key of %d bits is too short", k.N.BitLen())
		}
	case ed25519.PublicKey:
	default:
		return bad(way, "the kind of the key is not supported")
	}
	return nil
}

// decrypt opens the body of a key of cosign: JSON with the parameters of scrypt and a
// secretbox of NaCl (go-securesystemslib, encrypted).
func decrypt(body, password []byte) ([]byte, error) {
	var box struct {
		KDF struct {
			Name   string `json:"name"`
			Params struct {
				N int `json:"N"`
				R int `json:"r"`
				P int `json:"p"`
			} `json:"params"`
			Salt []byte `json:"salt"`
		} `json:"kdf"`
		Cipher struct {
			Name  string `json:"name"`
			Nonce []byte `json:"nonce"`
		} `json:"cipher"`
		Ciphertext []byte `json:"ciphertext"`
	}
	err := json.Unmarshal(body, &box)
	n, r, p := box.KDF.Params.N, box.KDF.Params.R, box.KDF.Params.P
	if err != nil || box.KDF.Name != "scrypt" || box.Cipher.Name != "nacl/secretbox" || len(box.Cipher.Nonce) != 24 ||
		n <= 1 || r <= 0 || p <= 0 || r > maxScrypt/128/n || p > 16 {
		return nil, bad("create a key with cosign generate-key-pair", "the encrypted key is broken")
	}
	derived, err := scrypt.Key(password, box.KDF.Salt, n, r, p, 32)
	if err != nil {
		return nil, bad("create a key with cosign generate-key-pair", "the encrypted key is broken: %s", err)
	}
	plain, ok := secretbox.Open(nil, box.Ciphertext, (*[24]byte)(box.Cipher.Nonce), (*[32]byte)(derived))
	if !ok {
		return nil, &hint.Error{Kind: hint.Credentials, Err: errors.New("the password of the key is wrong, or the key was changed"), Hint: "set COSIGN_PASSWORD to the password of the key"}
	}
	return plain, nil
}

// Public returns the key that checks the signatures of k.
func (k *Key) Public() *PublicKey { return &PublicKey{k.private.Public()} }

// sign returns the signature of message, the same each time: ECDSA as in RFC 6979, RSA as
// in PKCS#1 v1.5, both of its SHA-256.
func (k *Key) sign(message []byte) ([]byte, error) {
	if _, ok := k.private.Public().(ed25519.PublicKey); ok {
		return k.private.Sign(nil, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	return k.private.Sign(nil, sum[:], crypto.SHA256)
}

// ParsePublic reads a public key in PEM (PKIX or PKCS#1). A private key is an error.
func ParsePublic(text []byte) (*PublicKey, error) {
	block, _ := pem.Decode(text)
	const way = "use the public key, such as cosign.pub"
	if block == nil {
		return nil, bad(way, "no public key in PEM format")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, bad(way, "%q is not a public key", block.Type)
	}
	if err != nil {
		return nil, bad(way, "the public key cannot be read")
	}
	return &PublicKey{key}, supported(key)
}

// verify reports whether sig is the key's signature of message.
func (p *PublicKey) verify(message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch k := p.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	}
	return false
}

// ID identifies the key as cosign does in the hint of a bundle: the digest of its
// SubjectPublicKeyInfo in base64. It names the key, and proves nothing.
func (p *PublicKey) ID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(p.public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// bad is an error about a key that the user named.
func bad(way, format string, args ...any) error {
	return hint.New(hint.Usage, way, "%s", fmt.Sprintf(format, args...))
}
