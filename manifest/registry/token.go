package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Caps on what is read when no content is asked for.
const (
	maxTokenBody = 64 << 10
	maxErrorBody = 64 << 10
)

// defaultTokenLife is how long a token lives whose server does not say
// (distribution, token authentication specification).
const defaultTokenLife = 60 * time.Second

// splitScopes splits the scopes of a challenge, which are parted by spaces.
func splitScopes(s string) []string { return strings.Fields(s) }

// token returns a token that allows what k needs, one that is held or a new one.
// Who needs the same token at the same time waits for one request.
func (a *auth) token(ctx context.Context, k *request, d authScheme, credentials authn.AuthConfig) (string, error) {
	if credentials != (authn.AuthConfig{}) && !a.trusts(k.host, d.realm) {
		e := k.fault(fmt.Errorf("the token server %s is not allowed to receive the credentials", clean(d.realm.Host)))
		e.credential, e.final = true, true
		e.Setting, e.SettingHost = "TrustRealms", clean(d.realm.Host)
		return "", e
	}
	from := tokenService{realm: d.realm.String(), service: d.service, credentials: credentials}
	want := join(k.scopes)
	if held := a.held(from, want); held != "" {
		return held, nil
	}
	return share(ctx, a.fetch.Do, tokenRequest{from, strings.Join(want, " ")}, func() (string, error) {
		if held := a.held(from, want); held != "" {
			return held, nil
		}
		g, err := a.request(ctx, k, d, credentials, want)
		if err != nil {
			return "", err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tokens[from] = append(a.tokens[from], g)
		return g.value, nil
	})
}

// held returns a token that lives and allows want, or "".
func (a *auth) held(from tokenService, want []string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.tokens[from] = slices.DeleteFunc(a.tokens[from], func(g bearerToken) bool { return !now.Before(g.until) })
	for _, g := range a.tokens[from] {
		if covers(g.scopes, want) {
			return g.value
		}
	}
	return ""
}

// request asks the token server: GET with Basic or nothing, or POST with an
// identity token (distribution, OAuth2 token authentication). A server that knows
// no POST gets the identity token as the password of a GET.
func (a *auth) request(ctx context.Context, k *request, d authScheme, credentials authn.AuthConfig, want []string) (bearerToken, error) {
	g, err := a.requestOnce(ctx, k, d, credentials, want)
	if s := statusOf(err); credentials.IdentityToken != "" && (s == http.StatusNotFound || s == http.StatusMethodNotAllowed) {
		asPassword := authn.AuthConfig{Username: credentials.Username, Password: credentials.IdentityToken}
		return a.requestOnce(ctx, k, d, asPassword, want)
	}
	return g, err
}

func (a *auth) requestOnce(ctx context.Context, k *request, d authScheme, credentials authn.AuthConfig, want []string) (bearerToken, error) {
	ask := &request{
		method: http.MethodGet, host: k.host, repo: k.repo, token: true, header: http.Header{},
		want: []int{http.StatusOK},
	}
	at := *d.realm
	ask.url = &at
	form := at.Query()
	if d.service != "" {
		form.Set("service", d.service)
	}
	if credentials.IdentityToken != "" {
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", credentials.IdentityToken)
		form.Set("client_id", "mabuild")
		form.Set("scope", strings.Join(want, " "))
		at.RawQuery = ""
		ask.method = http.MethodPost
		ask.header.Set("Content-Type", "application/x-www-form-urlencoded")
		ask.body = bytesBody([]byte(form.Encode()))
	} else {
		form["scope"] = want
		at.RawQuery = form.Encode()
		if credentials.Username != "" || credentials.Password != "" {
			ask.header.Set("Authorization", basic(credentials))
		}
	}
	resp, err := a.w.do(ctx, ask)
	if err != nil {
		return bearerToken{}, a.tokenError(err, d.realm)
	}
	defer discard(resp)
	g, err := readGrant(resp.Body, want)
	if err != nil {
		e := ask.fault(err)
		e.final = true
		return bearerToken{}, a.tokenError(e, d.realm)
	}
	return g, nil
}

// tokenError names the token server in an error that is about it.
func (a *auth) tokenError(err error, realm *url.URL) error {
	var e *Error
	if errors.As(err, &e) {
		if e.Status == http.StatusBadRequest {
			e.credential = true // what some servers say to a wrong password
		}
		e.final = true
		e.Err = fmt.Errorf("token server %s: %w", clean(realm.Host), cmp.Or(e.Err, errors.New("no token")))
	}
	return err
}

// readGrant reads the answer of a token server.
func readGrant(r io.Reader, scopes []string) (bearerToken, error) {
	var doc struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	body, err := io.ReadAll(io.LimitReader(r, maxTokenBody))
	if err != nil {
		return bearerToken{}, err
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return bearerToken{}, errors.New("an answer that is not a token")
	}
	token := cmp.Or(doc.Token, doc.AccessToken)
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return bearerToken{}, errors.New("an answer without a token")
	}
	life := defaultTokenLife
	if doc.ExpiresIn > 0 {
		life = time.Duration(min(doc.ExpiresIn, 1e6) * float64(time.Second))
	}
	return bearerToken{scopes: scopes, value: token, until: time.Now().Add(life - min(life/4, 10*time.Second))}, nil
}

// bytesBody makes a body of b.
func bytesBody(b []byte) *requestBody {
	return &requestBody{size: int64(len(b)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}
