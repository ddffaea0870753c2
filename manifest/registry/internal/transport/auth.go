package transport

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/net/publicsuffix"

	"github.com/mabuild/mabuild/internal/once"
)

// An auth holds how each registry authenticates and the tokens that were obtained for it.
// It implements Basic (RFC 7617) and the token authentication of Docker Distribution,
// whose challenges are those of RFC 6750.
//
// A request is sent without credentials until the registry has sent a challenge. The
// challenge is then remembered for the host, and the next requests have credentials at
// once. It is safe for concurrent use.
type auth struct {
	t        *Transport
	keychain keychain

	mu     sync.Mutex                     // guards asked and tokens; not held during a request
	asked  map[string]authScheme          // the last challenge, by host
	tokens map[tokenService][]bearerToken // the tokens of this run
	// fetch joins equal token requests that run at the same time.
	fetch once.Flight[tokenRequest, string]
}

// An authScheme is what a registry's challenge asks for: Basic, or Bearer with a token
// service.
type authScheme struct {
	basic   bool
	realm   *url.URL
	service string
}

// A tokenService is a token service together with the credentials for it. The credentials
// are part of the key, since repositories of one host may have different ones.
type tokenService struct {
	realm, service string
	credentials    authn.AuthConfig
}

// A tokenRequest is the key of a request to a token service.
type tokenRequest struct {
	tokenService
	scopes string
}

// A bearerToken is a token with its scopes and the time until which it is used, which is
// earlier than its expiry.
type bearerToken struct {
	scopes []string
	value  string
	until  time.Time
}

// newAuth returns an auth that sends its requests through t.
func newAuth(t *Transport) *auth {
	return &auth{
		t: t, keychain: keychain{inner: t.Keychain, asks: &helpers{limit: t.HelperLimit}},
		asked: map[string]authScheme{}, tokens: map[tokenService][]bearerToken{},
	}
}

// authorization returns the Authorization header of a request, or "" if the registry has
// not sent a challenge. A request to another host has no header: credentials are never
// sent along a redirect. For a Bearer scheme it may request a token first.
func (a *auth) authorization(ctx context.Context, r *Request) (string, error) {
	a.mu.Lock()
	d, asked := a.asked[r.Registry.Name]
	a.mu.Unlock()
	if !asked || r.is(toTokenService) || r.URL != nil && !a.t.ours(r) {
		return "", nil
	}
	credentials, err := a.keychain.of(ctx, r)
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
	token, err := a.token(ctx, r, d, credentials)
	if err != nil || token == "" {
		return "", err
	}
	return "Bearer " + token, nil
}

// explain sets the hint of an error about credentials, unless it has one. The hint
// depends on whether there were credentials and where they are stored.
func (a *auth) explain(r *Request, e *Error) *Error {
	if !e.refused() || e.hint != "" || e.Setting != "" {
		return e
	}
	key := r.Registry.Name + "/" + r.Repository
	held, asked := a.keychain.held.Load(key)
	login := "mabuild login " + r.Registry.Name
	where, known := a.keychain.origins.Load(key)
	origin, _ := where.(*storedCredentials)
	switch {
	case !asked: // the keychain was not asked, so nothing is known
	case held == (authn.AuthConfig{}):
		e.hint = "no credentials for " + r.Registry.Name + " are stored. Run: " + login
	case known && origin.helper && e.Status == http.StatusForbidden:
		e.hint = fmt.Sprintf("the credentials from %s lack permission; log in to another account, with the program that the helper belongs to", origin.at)
	case known && origin.helper:
		e.hint = fmt.Sprintf("the credentials from %s were rejected; log in again with the program that the helper belongs to", origin.at)
	case known && e.Status == http.StatusForbidden:
		e.hint = fmt.Sprintf("The credentials in %s lack permission. Run, with another account: %s", origin.at, login)
	case known:
		e.hint = fmt.Sprintf("The credentials in %s were rejected. Run: %s", origin.at, login)
	}
	return e
}

// ours reports whether the URL of the request has the registry's own scheme, host and
// port.
func (t *Transport) ours(r *Request) bool {
	r.Registry.mu.Lock()
	scheme := r.Registry.scheme
	r.Registry.mu.Unlock()
	return scheme != "" && sameOrigin(r.Registry.base(scheme), r.URL)
}

// basic returns the value of Authorization for a user and a password (RFC 7617).
func basic(c authn.AuthConfig) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// challenged records the challenge of a 401. sent is the Authorization of the request. It
// reports whether sending the request again can succeed: with a Bearer challenge, a new
// token may have more scopes; with Basic, only if the credentials were not sent yet. A
// challenge of another host than the registry is ignored, so that it cannot obtain
// credentials.
func (a *auth) challenged(ctx context.Context, r *Request, h http.Header, sent string) (bool, error) {
	if r.URL != nil && !a.t.ours(r) {
		return false, nil
	}
	credentials, err := a.keychain.of(ctx, r)
	if err != nil {
		return false, err
	}
	all := parseChallenges(h)
	if i := slices.IndexFunc(all, func(c challenge) bool { return c.scheme == "bearer" }); i >= 0 {
		if credentials.RegistryToken != "" && sent != "" {
			return false, nil
		}
		return true, a.bearer(r, all[i], sent)
	}
	if !slices.ContainsFunc(all, func(c challenge) bool { return c.scheme == "basic" }) {
		return false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[r.Registry.Name] = authScheme{basic: true}
	return sent == "" && (credentials.Username != "" || credentials.Password != ""), nil
}

// bearer records a Bearer challenge: the token service and the scopes of the request. The
// token that was sent is dropped, since the registry has just rejected it: it may be
// revoked, or have too few scopes. Scopes of the challenge are added to those of the
// request (RFC 6750, 3).
func (a *auth) bearer(r *Request, c challenge, sent string) error {
	realm, err := a.parseRealm(r.Registry, c.params["realm"])
	if err != nil {
		e := r.Fault(err)
		e.Status, e.final = http.StatusUnauthorized, true
		return e
	}
	if c.params["scope"] != "" {
		r.Scopes = join(slices.Concat(r.Scopes, splitScopes(c.params["scope"])))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[r.Registry.Name] = authScheme{realm: realm, service: c.params["service"]}
	for from, tokens := range a.tokens {
		a.tokens[from] = slices.DeleteFunc(tokens, func(g bearerToken) bool { return "Bearer "+g.value == sent })
	}
	return nil
}

// tokenServers maps the domain of a registry to the domain of its token service, if they
// differ. Both are registrable domains.
var tokenServers = map[string]string{
	"scw.cloud": "scaleway.com",
}

// parseRealm parses the URL of a token service. Plain HTTP is allowed only if the
// registry itself uses plain HTTP, and the token service is on the same host or on one
// where the user permits it.
func (a *auth) parseRealm(h *Registry, realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, errors.New("the registry gives no valid token server")
	}
	u.User, u.Fragment = nil, ""
	h.mu.Lock()
	scheme := h.scheme
	h.mu.Unlock()
	plain := scheme == "http" && (strings.EqualFold(u.Hostname(), hostnameOf(h.address)) || a.t.Registry(u.Host).mayPlain())
	if u.Scheme != "https" && (u.Scheme != "http" || !plain) {
		return nil, fmt.Errorf("the registry gives a token server without HTTPS: %s", Clean(u.Host))
	}
	return u, nil
}

// trusts reports whether the token service at realm may receive the credentials of h: it
// is on the same host with any port, in the same registrable domain, a known pair, or
// named by the user. A registry chooses its realm freely; without this rule it could make
// the client send the credentials to any host.
func (a *auth) trusts(h *Registry, realm *url.URL) bool {
	server, registry := strings.ToLower(realm.Hostname()), strings.ToLower(hostnameOf(h.address))
	if server == registry {
		return true
	}
	for _, named := range a.t.TrustRealms {
		if strings.EqualFold(named, realm.Host) || strings.EqualFold(named, server) {
			return true
		}
	}
	theirs, ours := registrable(server), registrable(registry)
	return theirs != "" && (theirs == ours || tokenServers[ours] == theirs)
}

// registrable returns the domain that one owner has registered, by the public suffix
// list; "" for addresses, public suffixes and single labels.
func registrable(hostname string) string {
	if _, err := netip.ParseAddr(hostname); err == nil {
		return ""
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimSuffix(hostname, "."))
	if err != nil {
		return ""
	}
	return domain
}
