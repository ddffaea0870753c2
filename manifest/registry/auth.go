package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/once"
)

// An auth knows what each registry wants to see and holds what was got for it.
type auth struct {
	w        *transport
	keychain keychain
	realms   []string // that the user trusts

	mu     sync.Mutex
	asked  map[string]authScheme // by host
	tokens map[tokenService][]bearerToken
	fetch  once.Flight[tokenRequest, string]
}

// An authScheme is how a registry wants to be answered.
type authScheme struct {
	basic   bool
	realm   *url.URL
	service string
}

// A tokenService gives tokens to one identity.
type tokenService struct {
	realm, service string
	credentials    authn.AuthConfig
}

// A tokenRequest is one request to a token service.
type tokenRequest struct {
	tokenService
	scopes string
}

// A bearerToken is a token and what it allows.
type bearerToken struct {
	scopes []string
	value  string
	until  time.Time
}

func newAuth(w *transport, k authn.Keychain, realms []string) *auth {
	if k == nil {
		k = DefaultKeychain
	}
	return &auth{
		w: w, keychain: keychain{inner: k, asks: new(helpers)}, realms: realms,
		asked: map[string]authScheme{}, tokens: map[tokenService][]bearerToken{},
	}
}

// authorization returns the Authorization of a request, "" while the registry has
// not asked for any.
func (a *auth) authorization(ctx context.Context, k *request) (string, error) {
	a.mu.Lock()
	d, asked := a.asked[k.host.name]
	a.mu.Unlock()
	if !asked || k.token || k.url != nil && !a.w.ours(k) {
		return "", nil
	}
	credentials, err := a.keychain.of(ctx, k)
	if err != nil {
		return "", err
	}
	switch {
	case credentials.RegistryToken != "":
		return "Bearer " + credentials.RegistryToken, nil
	case d.basic && credentials.Username == "" && credentials.Password == "":
		return "", nil
	case d.basic:
		return basic(credentials), nil
	}
	token, err := a.token(ctx, k, d, credentials)
	if err != nil || token == "" {
		return "", err
	}
	return "Bearer " + token, nil
}

// explain gives an error about credentials its hint: it matters whether there were
// any, and whose.
func (a *auth) explain(k *request, e *Error) *Error {
	if !e.refused() || e.hint != "" || e.Setting != "" {
		return e
	}
	key := k.host.name + "/" + k.repo
	held, asked := a.keychain.held.Load(key)
	login := "mabuild login " + k.host.name
	where, known := a.keychain.origins.Load(key)
	origin, _ := where.(credentialsOrigin)
	switch {
	case !asked: // an answer that wants none
	case held == (authn.AuthConfig{}):
		e.hint = "no credentials for " + k.host.name + " are stored. Run: " + login
	case origin.helper && e.Status == http.StatusForbidden:
		e.hint = fmt.Sprintf("the credentials from %s lack permission; log in to another account, with the program that the helper belongs to", origin.at)
	case origin.helper:
		e.hint = fmt.Sprintf("the credentials from %s were rejected; log in again with the program that the helper belongs to", origin.at)
	case known && e.Status == http.StatusForbidden:
		e.hint = fmt.Sprintf("The credentials in %s lack permission. Run, with another account: %s", origin.at, login)
	case known:
		e.hint = fmt.Sprintf("The credentials in %s were rejected. Run: %s", origin.at, login)
	}
	return e
}

// ours reports whether the request goes to the registry itself.
func (w *transport) ours(k *request) bool {
	k.host.mu.Lock()
	scheme := k.host.scheme
	k.host.mu.Unlock()
	return scheme != "" && sameOrigin(k.host.base(scheme), k.url)
}

func basic(c authn.AuthConfig) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// challenged takes in what a registry asked for with a 401 that answered sent.
// It reports whether the request is worth sending again.
func (a *auth) challenged(ctx context.Context, k *request, h http.Header, sent string) (bool, error) {
	if k.url != nil && !a.w.ours(k) {
		return false, nil
	}
	credentials, err := a.keychain.of(ctx, k)
	if err != nil {
		return false, err
	}
	all := parseChallenges(h)
	if i := slices.IndexFunc(all, func(c challenge) bool { return c.scheme == "bearer" }); i >= 0 {
		if credentials.RegistryToken != "" && sent != "" {
			return false, nil
		}
		return true, a.bearer(k, all[i], sent)
	}
	if !slices.ContainsFunc(all, func(c challenge) bool { return c.scheme == "basic" }) {
		return false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[k.host.name] = authScheme{basic: true}
	return sent == "" && (credentials.Username != "" || credentials.Password != ""), nil
}

// bearer takes in a Bearer challenge: where tokens are to be had, and what the
// call needs. A token that was sent is worth nothing any more.
func (a *auth) bearer(k *request, c challenge, sent string) error {
	realm, err := a.parseRealm(k.host, c.params["realm"])
	if err != nil {
		e := k.fault(err)
		e.Status, e.final = http.StatusUnauthorized, true
		return e
	}
	if c.params["scope"] != "" {
		k.scopes = join(slices.Concat(k.scopes, splitScopes(c.params["scope"])))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[k.host.name] = authScheme{realm: realm, service: c.params["service"]}
	for from, grants := range a.tokens {
		a.tokens[from] = slices.DeleteFunc(grants, func(g bearerToken) bool { return "Bearer "+g.value == sent })
	}
	return nil
}
