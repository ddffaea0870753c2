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
)

// An auth knows what each registry wants to see and holds what was got for it.
type auth struct {
	w        *wire
	keychain keychain
	realms   []string // that the user trusts

	mu     sync.Mutex
	asked  map[string]demand // by host
	tokens map[issuer][]grant
	fetch  flights[errand, string]
}

// A demand is how a registry wants to be answered.
type demand struct {
	basic   bool
	realm   *url.URL
	service string
}

// An issuer gives tokens to one identity.
type issuer struct {
	realm, service string
	credentials    authn.AuthConfig
}

// An errand is one question to an issuer.
type errand struct {
	issuer
	scopes string
}

// A grant is a token and what it allows.
type grant struct {
	scopes []string
	token  string
	until  time.Time
}

func newAuth(w *wire, k authn.Keychain, realms []string) *auth {
	if k == nil {
		k = DefaultKeychain
	}
	return &auth{
		w: w, keychain: keychain{inner: k}, realms: realms,
		asked: map[string]demand{}, tokens: map[issuer][]grant{},
	}
}

// authorization returns the Authorization of a call, "" while the registry has
// not asked for any.
func (a *auth) authorization(ctx context.Context, k *call) (string, error) {
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
func (a *auth) explain(k *call, e *Error) *Error {
	if !e.refused() || e.hint != "" {
		return e
	}
	key := k.host.name + "/" + k.repo
	held, asked := a.keychain.held.Load(key)
	login := "mabuild login " + k.host.name
	where, known := a.keychain.origins.Load(key)
	origin, _ := where.(keptAt)
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

// ours reports whether the call goes to the registry itself.
func (w *wire) ours(k *call) bool {
	k.host.mu.Lock()
	scheme := k.host.scheme
	k.host.mu.Unlock()
	return scheme != "" && sameOrigin(k.host.base(scheme), k.url)
}

func basic(c authn.AuthConfig) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// challenged takes in what a registry asked for with a 401 that answered sent.
// It reports whether the call is worth sending again.
func (a *auth) challenged(ctx context.Context, k *call, h http.Header, sent string) (bool, error) {
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
	a.asked[k.host.name] = demand{basic: true}
	return sent == "" && (credentials.Username != "" || credentials.Password != ""), nil
}

// bearer takes in a Bearer challenge: where tokens are to be had, and what the
// call needs. A token that was sent is worth nothing any more.
func (a *auth) bearer(k *call, c challenge, sent string) error {
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
	a.asked[k.host.name] = demand{realm: realm, service: c.params["service"]}
	for from, grants := range a.tokens {
		a.tokens[from] = slices.DeleteFunc(grants, func(g grant) bool { return "Bearer "+g.token == sent })
	}
	return nil
}
