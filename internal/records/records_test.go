package records

import (
	"crypto/ed25519"
	"strings"
	"testing"
)

// A secret gives one key, whose public half can be written and read. A short secret gives none.
func TestKeyOf(t *testing.T) {
	secret := strings.Repeat("s", minSecret)
	one, err := KeyOf(secret)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := KeyOf(secret); err != nil || !one.Equal(two) {
		t.Errorf("the same secret gives another key, %v", err)
	}
	if other, err := KeyOf(secret + "s"); err != nil || one.Equal(other) {
		t.Errorf("another secret gives the same key, %v", err)
	}
	// The digest of signing must not change: records of older versions would not count.
	const want = "ed25519:"
	text := PublicKey(one)
	public, err := ParsePublicKey(text)
	if err != nil || !strings.HasPrefix(text, want) || !public.Equal(one.Public()) {
		t.Errorf("%s: %v", text, err)
	}
	if !ed25519.Verify(public, []byte("text"), ed25519.Sign(one, []byte("text"))) {
		t.Error("the public key does not verify a signature")
	}
	if _, err := KeyOf(secret[1:]); err == nil || err.Error() != "the secret has 31 characters, and signing needs 32" {
		t.Errorf("a short secret: %v", err)
	}
	for _, bad := range []string{"", "ed25519:", "ed25519:AAAA", strings.TrimPrefix(text, want), text + "=", "rsa:" + strings.TrimPrefix(text, want)} {
		if _, err := ParsePublicKey(bad); err == nil {
			t.Errorf("%q is a public key", bad)
		}
	}
}
