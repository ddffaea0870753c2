// The issuer of identities for tests (OpenID Connect Discovery 1.0): it signs a token for any
// email address that is asked for, as GitHub's token service answers.
//
//	issuer ADDRESS    GET /token?email=E answers {"value": TOKEN}
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log"
	"math/big"
	"net/http"
	"os"
	"time"
)

func main() {
	address := os.Args[1]
	issuer := "http://" + address
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	answer := func(path string, value func(*http.Request) any) {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(value(r))
		})
	}
	answer("/.well-known/openid-configuration", func(*http.Request) any {
		return map[string]any{
			"issuer": issuer, "jwks_uri": issuer + "/keys", "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		}
	})
	answer("/keys", func(*http.Request) any {
		return map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}}
	})
	answer("/token", func(r *http.Request) any {
		email := r.URL.Query().Get("email")
		return map[string]string{"value": token(key, map[string]any{
			"iss": issuer, "aud": "sigstore", "sub": email, "email": email, "email_verified": true,
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		})}
	})
	log.Fatal(http.ListenAndServe(address, nil)) //nolint:gosec // on loopback, for a test
}

// token returns a JSON Web Token (RFC 7519) with an RS256 signature.
func token(key *rsa.PrivateKey, claims map[string]any) string {
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			log.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": "1"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		log.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}
