package regtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// tokenPath is the path of the token service.
const tokenPath = "/token"

// An issued token allows its scopes until it ends.
type issued struct {
	scopes []string
	until  time.Time
}

// admits reports whether req has the credentials that the registry requires.
func (r *Registry) admits(req *http.Request) bool {
	switch {
	case r.options.User == "":
		return true
	case !r.options.Bearer:
		user, password, _ := req.BasicAuth()
		return user == r.options.User && password == r.options.Password
	}
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	r.mu.Lock()
	held, known := r.tokens[token]
	r.mu.Unlock()
	if !ok || !known || time.Now().After(held.until) {
		return false
	}
	for _, want := range demanded(req) {
		if !slices.ContainsFunc(held.scopes, func(have string) bool { return allows(have, want) }) {
			return false
		}
	}
	return true
}

// demanded returns the scopes that req needs.
func demanded(req *http.Request) []string {
	rest := strings.TrimPrefix(req.URL.Path, "/v2/")
	name := rest
	for _, part := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/list"} {
		name, _, _ = strings.Cut(name, part)
	}
	switch name {
	case "":
		return nil
	case "_catalog":
		return []string{"registry:catalog:*"}
	}
	action := "push"
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		action = "pull"
	}
	scopes := []string{"repository:" + name + ":" + action}
	if from := req.URL.Query().Get("from"); from != "" {
		scopes = append(scopes, "repository:"+from+":pull")
	}
	return scopes
}

// allows reports whether the scope have allows want, which has one action.
func allows(have, want string) bool {
	h, w := strings.LastIndexByte(have, ':'), strings.LastIndexByte(want, ':')
	return have[:h] == want[:w] && slices.Contains(strings.Split(have[h+1:], ","), want[w+1:])
}

// challenge answers with 401 and a challenge.
func (r *Registry) challenge(w http.ResponseWriter, req *http.Request) int {
	challenge := `Basic realm="regtest"`
	if r.options.Bearer {
		realm := r.options.Realm
		if realm == "" {
			realm = r.server.URL + tokenPath
		}
		challenge = fmt.Sprintf(`Bearer realm=%q,service="regtest",scope=%q`, realm, strings.Join(demanded(req), " "))
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
	return http.StatusUnauthorized
}

// serveToken is the token service: GET with Basic credentials, or POST with the password as
// refresh token.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request, entry func(func(*Request))) int {
	scopes := req.URL.Query()["scope"]
	user, password, _ := req.BasicAuth()
	if req.Method == http.MethodPost && req.PostFormValue("grant_type") == "refresh_token" {
		scopes = strings.Fields(req.PostFormValue("scope"))
		user, password = r.options.User, req.PostFormValue("refresh_token")
	}
	entry(func(e *Request) { e.Scopes = scopes })
	if user != r.options.User || password != r.options.Password {
		w.WriteHeader(http.StatusUnauthorized)
		return http.StatusUnauthorized
	}
	life := r.options.TokenLife
	if life == 0 {
		life = time.Hour
	}
	token := rand.Text()
	r.mu.Lock()
	r.tokens[token] = issued{scopes: scopes, until: time.Now().Add(life)}
	r.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": life.Seconds()})
	return http.StatusOK
}

// Tokens returns every token that was issued and not revoked.
func (r *Registry) Tokens() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.tokens))
}

// Revoke makes all issued tokens invalid.
func (r *Registry) Revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.tokens)
}
