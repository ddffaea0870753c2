package transport

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

// The bounds of answers without content, in bytes.
const (
	maxTokenBody = 64 << 10
	maxErrorBody = 64 << 10
)

// defaultTokenLife is the life of a token without expires_in (Docker Distribution, "Token
// Authentication Specification").
const defaultTokenLife = 60 * time.Second

// splitScopes splits the scopes of a challenge, which are separated by spaces.
func splitScopes(s string) []string { return strings.Fields(s) }

// token returns a token with the scopes that k needs, one that is held or a new one.
// Callers that need the same token at the same time share one token request. A token
// service that is not trusted with the credentials is an error: an anonymous token would
// only lead to a misleading refusal later. Without credentials any token service may be
// asked.
func (a *auth) token(ctx context.Context, r *Request, d authScheme, credentials authn.AuthConfig) (string, error) {
	if credentials != (authn.AuthConfig{}) && !a.trusts(r.Registry, d.realm) {
		e := r.Fault(fmt.Errorf("the token server %s is not allowed to receive the credentials", Clean(d.realm.Host)))
		e.credential, e.final = true, true
		e.Setting, e.SettingHost = "TrustRealms", Clean(d.realm.Host)
		return "", e
	}
	from := tokenService{realm: d.realm.String(), service: d.service, credentials: credentials}
	want := join(r.Scopes)
	if held := a.held(from, want); held != "" {
		return held, nil
	}
	return Share(ctx, a.fetch.Do, tokenRequest{from, strings.Join(want, " ")}, func() (string, error) {
		if held := a.held(from, want); held != "" {
			return held, nil
		}
		g, err := a.request(ctx, r, d, credentials, want)
		if err != nil {
			return "", err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tokens[from] = append(a.tokens[from], g)
		return g.value, nil
	})
}

// held returns a token that has not expired and has all scopes of want, or "". It drops
// expired tokens.
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

// request requests a token: by GET with Basic credentials or none, or by POST with an
// identity token (Docker Distribution, "OAuth2 Token Authentication"). If the token
// service does not support POST (404 or 405), the identity token is sent as the password
// of a GET.
func (a *auth) request(ctx context.Context, r *Request, d authScheme, credentials authn.AuthConfig, want []string) (bearerToken, error) {
	g, err := a.requestOnce(ctx, r, d, credentials, want)
	if s := StatusOf(err); credentials.IdentityToken != "" && (s == http.StatusNotFound || s == http.StatusMethodNotAllowed) {
		asPassword := authn.AuthConfig{Username: credentials.Username, Password: credentials.IdentityToken}
		return a.requestOnce(ctx, r, d, asPassword, want)
	}
	return g, err
}

// requestOnce sends one token request. It goes through the same transport as all
// requests, with its retries and limits; a 401 of the token service is an error, not a
// challenge.
func (a *auth) requestOnce(ctx context.Context, r *Request, d authScheme, credentials authn.AuthConfig, want []string) (bearerToken, error) {
	ask := &Request{
		Method: http.MethodGet, Registry: r.Registry, Repository: r.Repository, Policy: toTokenService, Header: http.Header{},
		Want: []int{http.StatusOK},
	}
	at := *d.realm
	ask.URL = &at
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
		ask.Method = http.MethodPost
		ask.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		ask.Body = BytesBody([]byte(form.Encode()))
	} else {
		form["scope"] = want
		at.RawQuery = form.Encode()
		if credentials.Username != "" || credentials.Password != "" {
			ask.Header.Set("Authorization", basic(credentials))
		}
	}
	resp, err := a.t.Do(ctx, ask)
	if err != nil {
		return bearerToken{}, a.tokenError(err, d.realm)
	}
	defer discard(resp)
	g, err := readToken(resp.Body, want)
	if err != nil {
		e := ask.Fault(err)
		e.final = true
		return bearerToken{}, a.tokenError(e, d.realm)
	}
	return g, nil
}

// tokenError names the token service in the error of a token request. err is not shared
// yet, so it is changed in place. The error is final: the token request has had its
// retries already, and the request that needs the token must not multiply them.
func (a *auth) tokenError(err error, realm *url.URL) error {
	var e *Error
	if errors.As(err, &e) {
		if e.Status == http.StatusBadRequest {
			e.credential = true // some token services answer 400 to a wrong password
		}
		e.final = true
		e.Err = fmt.Errorf("token server %s: %w", Clean(realm.Host), cmp.Or(e.Err, errors.New("no token")))
	}
	return err
}

// readToken reads the answer of a token service. A token with a character that a header
// cannot have is refused. The token is used until a quarter of its life, at most 10
// seconds, before it expires, so that it is valid when the request arrives.
func readToken(r io.Reader, scopes []string) (bearerToken, error) {
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

// BytesBody returns b as the body of a request.
func BytesBody(b []byte) *Body {
	return &Body{Size: int64(len(b)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}}
}
