package registry_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

var bearer = regtest.Options{User: "me", Password: "secret", Bearer: true}

func TestBasic(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{User: "me", Password: "secret"})
	c := client(t)
	c.Keychain = login{"me", "secret"}
	idx := regtest.RandomIndex(t, 500, 1, "amd64", "arm64")
	put(t, c, r.Host+"/app:v1", idx)
	unauthorized := 0
	for _, req := range r.Requests() {
		if req.Status == http.StatusUnauthorized {
			unauthorized++
		}
	}
	if unauthorized != 1 {
		t.Errorf("%d requests without credentials, want 1", unauthorized)
	}
}

// A push needs one token, requested with both rights at once. A mount adds the right to
// pull from its source.
func TestBearerTokens(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, bearer)
	c := client(t)
	c.Keychain = login{"me", "secret"}
	idx := regtest.RandomIndex(t, 500, 1, five...)
	_, release, err := c.Prepare(t.Context(), r.Host+"/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	put(t, c, r.Host+"/app:v1", idx)
	tokens := scopesOf(r)
	if len(tokens) != 1 || tokens[0] != "repository:app:pull,push" {
		t.Errorf("tokens %q", tokens)
	}
	r.Reset()
	put(t, c, r.Host+"/other:v1", idx)
	tokens = scopesOf(r)
	slices.Sort(tokens)
	if want := []string{"repository:app:pull repository:other:pull,push", "repository:other:pull,push"}; !slices.Equal(tokens, want) {
		t.Errorf("tokens %q, want %q", tokens, want)
	}
	if n := r.Tally()["POST mount"]; n != 10 {
		t.Errorf("%d mounts", n)
	}
	if n := statuses(r)[http.StatusUnauthorized]; n != 0 {
		t.Errorf("%d requests were refused", n)
	}
}

func scopesOf(r *regtest.Registry) (all []string) {
	for _, req := range r.Requests() {
		if req.Kind() == "GET token" {
			all = append(all, strings.Join(req.Scopes, " "))
		}
	}
	return all
}

func statuses(r *regtest.Registry) map[int]int {
	all := map[int]int{}
	for _, req := range r.Requests() {
		all[req.Status]++
	}
	return all
}

// Tokens that expire or are revoked in the middle of a push are replaced, also for a
// request with a body.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]regtest.Options{
		"short life": {TokenLife: time.Second}, "no life": {TokenLife: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			o.User, o.Password, o.Bearer = "me", "secret", true
			r := regtest.Start(t, o)
			c := client(t)
			c.Keychain = login{"me", "secret"}
			idx := regtest.RandomIndex(t, 200_000, 2, "amd64")
			err := c.Put(t.Context(), r.Host+"/app:v1", idx)
			if o.TokenLife < time.Second {
				if !errors.Is(err, registry.ErrCredentials) && err != nil {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			verifyTag(t, r, "app:v1", idx)
		})
	}
	for _, fault := range []regtest.Fault{
		{Method: "PUT", Path: "/blobs/uploads/"},
		{Method: "PUT", Path: "/blobs/uploads/", Phase: regtest.Answer},
		{Method: "PUT", Path: "/manifests/v1"},
		{Method: "POST"},
		{Method: "HEAD", Path: "/blobs/"},
		{Method: "PUT", Path: "/blobs/uploads/", Phase: regtest.Up, After: 1000},
	} {
		r := regtest.Start(t, bearer)
		c := client(t)
		c.Keychain = login{"me", "secret"}
		idx := regtest.RandomIndex(t, 200_000, 2, "amd64")
		fault.Status = http.StatusUnauthorized
		fault.Header = http.Header{"Www-Authenticate": {`Bearer realm="http://` + r.Host + `/token",service="regtest"`}}
		r.Inject(fault)
		if err := c.Put(t.Context(), r.Host+"/app:v1", idx); err != nil {
			t.Errorf("%+v: %v", fault, err)
			continue
		}
		verifyTag(t, r, "app:v1", idx)
	}
}

func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]regtest.Options{"basic": {User: "me", Password: "secret"}, "bearer": bearer} {
		for _, given := range []login{{}, {"me", "wrong"}} {
			t.Run(name+" "+given.user, func(t *testing.T) {
				r := regtest.Start(t, o)
				c := client(t)
				c.Keychain = given
				_, _, err := c.Prepare(t.Context(), r.Host+"/app:v1")
				if !errors.Is(err, registry.ErrCredentials) {
					t.Fatalf("got %v", err)
				}
				want := "no credentials for " + r.Host + " are stored. Run: mabuild login " + r.Host
				if given.user != "" { // the keychain does not say which file they come from
					want = "mabuild login " + r.Host
				}
				if hint := hintOf(err); hint != want {
					t.Errorf("hint %q", hint)
				}
				if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), r.Host+"/app") {
					t.Error(err)
				}
				if n := r.Total(); n > 2 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// A registry that answers every token with another challenge gets two requests.
func TestChallengeLoop(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, bearer)
	c := client(t)
	c.Keychain = login{"me", "secret"}
	r.Inject(regtest.Fault{Path: "/v2/", Times: -1, Status: 401, Header: http.Header{
		"Www-Authenticate": {`Bearer realm="http://` + r.Host + `/token",service="regtest"`},
	}})
	_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
	if !errors.Is(err, registry.ErrCredentials) {
		t.Errorf("got %v", err)
	}
	expect(t, r, map[string]int{"HEAD manifest": 2, "GET token": 1})
}

// Credentials are sent only to a token service that the rules allow: one on another port of
// the host, but not one on another host.
func TestEvilRealm(t *testing.T) {
	t.Parallel()
	evil := regtest.StartEvil(t)
	elsewhere := strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)
	r := regtest.Start(t, regtest.Options{User: "me", Password: "secret", Bearer: true, Realm: elsewhere + "/token"})
	c := client(t)
	c.Keychain = login{"me", "secret"}
	_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
	if !errors.Is(err, registry.ErrCredentials) || settingOf(err) != "TrustRealms" || hintOf(err) != "" {
		t.Errorf("got %v, setting %q, hint %q", err, settingOf(err), hintOf(err))
	}
	if len(evil.Seen()) != 0 {
		t.Error("the token server was asked")
	}
	c = client(t) // no credentials may be sent there
	if _, err = c.Resolve(t.Context(), r.Host+"/app:v1"); err == nil || evil.Authorized() {
		t.Errorf("got %v", err)
	}
	if len(evil.Seen()) == 0 {
		t.Error("the token server was not asked for an anonymous token")
	}
	c = client(t)
	c.Keychain, c.TrustRealms = login{"me", "secret"}, []string{"localhost"}
	if _, err = c.Resolve(t.Context(), r.Host+"/app:v1"); !evil.Authorized() {
		t.Errorf("the user's word did not count: %v", err)
	}
}

// Neither a redirect nor a Location carries credentials elsewhere.
func TestEvilRedirect(t *testing.T) {
	t.Parallel()
	evil := regtest.StartEvil(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, path := range []string{"/manifests/", "/blobs/", "/uploads/"} {
			r := regtest.Start(t, regtest.Options{User: "me", Password: "secret"})
			c := client(t)
			c.Keychain = login{"me", "secret"}
			idx := regtest.RandomIndex(t, 500, 1, "amd64")
			r.Inject(regtest.Fault{Path: path, Nth: 2, Times: -1, Status: status, Header: http.Header{"Location": {evil.URL}}})
			_ = c.Put(t.Context(), r.Host+"/app:v1", idx)
		}
	}
	r := regtest.Start(t, regtest.Options{User: "me", Password: "secret"})
	c := client(t)
	c.Keychain = login{"me", "secret"}
	r.Inject(regtest.Fault{Method: "POST", Nth: 2, Times: -1, Status: 202, Header: http.Header{"Location": {evil.URL}}})
	_ = c.Put(t.Context(), r.Host+"/app:v1", regtest.RandomIndex(t, 500, 1, "amd64"))
	if len(evil.Seen()) == 0 {
		t.Error("nobody went there; the test tests nothing")
	}
	if evil.Authorized() {
		t.Error("credentials went elsewhere")
	}
}

// A keychain that does not answer in time is an error of credentials.
func TestKeychainFails(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, bearer)
	c := client(t)
	c.Keychain = broken{}
	_, err := c.Resolve(t.Context(), r.Host+"/app:v1")
	if !errors.Is(err, registry.ErrCredentials) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("got %v", err)
	}
}

type broken struct{}

func (broken) Resolve(authn.Resource) (authn.Authenticator, error) {
	return nil, errors.New(`error getting credentials - err: exit status 1, out: "s3cr3t"`)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]regtest.Options{"open": {}, "basic": {User: "me", Password: "secret"}, "bearer": bearer} {
		t.Run(name, func(t *testing.T) {
			r := regtest.Start(t, o)
			c := client(t)
			c.Keychain = login{o.User, o.Password}
			if err := c.Login(t.Context(), r.Host); err != nil {
				t.Error(err)
			}
			for _, req := range r.Requests() {
				if req.Kind() != "GET token" && req.Path != "/v2/" {
					t.Errorf("asked %s", req.Path)
				}
			}
			if o.User == "" {
				return
			}
			c = client(t)
			c.Keychain = login{"me", "wrong"}
			if err := c.Login(t.Context(), r.Host); !errors.Is(err, registry.ErrCredentials) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A web page takes any password with 200; it is no registry. Quay's answer, which has the
// same type, is one.
func TestLoginAtAWebPage(t *testing.T) {
	for header, page := range map[string]bool{"": true, "registry/2.0": false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if header != "" {
				w.Header().Set("Docker-Distribution-Api-Version", header)
			}
			_, _ = io.WriteString(w, "<html>Sign in") // the client finds out
		}))
		c := client(t)
		c.Keychain = login{"me", "secret"}
		err := c.Login(t.Context(), strings.TrimPrefix(s.URL, "http://"))
		s.Close()
		if errors.Is(err, manifest.ErrMismatch) != page || (err != nil) != page {
			t.Errorf("%q: %v", header, err)
		}
	}
}

// An identity token is exchanged by POST and never sent to the registry.
func TestIdentityToken(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, bearer)
	c := client(t)
	c.Keychain = identity("secret")
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, c, r.Host+"/app:v1", img)
	if n := r.Tally()["POST token"]; n != 1 {
		t.Errorf("%v", r.Tally())
	}
	for _, req := range r.Requests() {
		if req.Authorized == "Basic" {
			t.Errorf("%s with Basic", req.Kind())
		}
	}
	c = client(t)
	c.Keychain = identity("wrong")
	if _, err := c.Resolve(t.Context(), r.Host+"/app:v1"); !errors.Is(err, registry.ErrCredentials) {
		t.Errorf("got %v", err)
	}
}

// A token server that knows no POST gets the identity token as a password.
func TestIdentityTokenByGet(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed} {
		r := regtest.Start(t, bearer)
		r.Inject(regtest.Fault{Method: "POST", Path: "^/token", Status: status, Times: -1})
		c := client(t)
		c.Keychain = named("secret")
		put(t, c, r.Host+"/app:v1", regtest.Image(t, "amd64", 100, 1))
		if got := r.Tally(); got["POST token"] != 1 || got["GET token"] != 1 {
			t.Errorf("%v", got)
		}
	}
}

type named string

func (n named) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "me", IdentityToken: string(n)}), nil
}

type identity string

func (i identity) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "<token>", IdentityToken: string(i)}), nil
}
