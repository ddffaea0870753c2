package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/address"
)

func TestParseChallenges(t *testing.T) {
	for line, want := range map[string]string{
		`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"`: "bearer https://auth.docker.io/token repository:a/b:pull,push",
		`Basic realm="x", Bearer realm=https://x/token , scope=a`:                                                   "basic x / bearer https://x/token a",
		`bearer realm = "a\"b"`: `bearer a"b`,
		`Negotiate`:             "negotiate",
		``:                      "",
		`="x"`:                  "",
		`Bearer realm="x`:       "bearer",
	} {
		var got []string
		for _, c := range parseChallenges(http.Header{"Www-Authenticate": {line}}) {
			got = append(got, strings.TrimSpace(strings.Join([]string{c.scheme, c.params["realm"], c.params["scope"]}, " ")))
		}
		if joined := strings.Join(got, " / "); joined != want {
			t.Errorf("%s\n got %q\nwant %q", line, joined, want)
		}
	}
}

func TestCovers(t *testing.T) {
	push, pull := []string{"repository:a:5000/b:pull,push"}, []string{"repository:a:5000/b:pull"}
	both := join(slices.Concat(push, []string{"repository:c:pull"}))
	if !covers(push, pull) || covers(pull, push) || !covers(both, push) || covers(push, both) {
		t.Error("scopes are compared wrongly")
	}
	if got := join([]string{"r:a:push", "r:a:pull", "r:b:pull", "r:a:pull"}); !slices.Equal(got, []string{"r:a:pull,push", "r:b:pull"}) {
		t.Errorf("joined %q", got)
	}
}

// Who may have whose credentials.
func TestTrusts(t *testing.T) {
	for _, one := range []struct {
		registry, realm string
		want            bool
	}{
		{"docker.io", "https://auth.docker.io/token", true},
		{"ghcr.io", "https://ghcr.io/token", true},
		{"registry.gitlab.com", "https://gitlab.com/jwt/auth", true},
		{"rg.fr-par.scw.cloud", "https://api.scaleway.com/registry-internal/v1/token", true},
		{"registry.example.com:5000", "https://registry.example.com/token", true},
		{"127.0.0.1:5000", "http://127.0.0.1:6000/token", true},
		{"trusting.example.com", "https://auth.elsewhere.org/token", true},
		{"registry.example.com", "https://example.com.evil.org/token", false},
		{"registry.example.com", "https://evil.org/token", false},
		{"a.github.io", "https://b.github.io/token", false},
		{"a.co.uk", "https://b.co.uk/token", false},
		{"10.0.0.1", "https://10.0.0.2/token", false},
		{"127.0.0.1:5000", "http://localhost:5000/token", false},
		{"registry", "https://evil/token", false},
	} {
		to := New(Config{TrustRealms: []string{"auth.elsewhere.org"}})
		realm, err := url.Parse(one.realm)
		if err != nil {
			t.Fatal(err)
		}
		if got := to.auth.trusts(to.Registry(one.registry), realm); got != one.want {
			t.Errorf("%s at %s: %t", one.registry, one.realm, got)
		}
	}
}

func TestLocation(t *testing.T) {
	from := &url.URL{Scheme: "https", Host: "r.example.com", Path: "/v2/a/blobs/uploads/"}
	for location, want := range map[string]string{
		"/v2/a/blobs/uploads/1?_state=x":       "https://r.example.com/v2/a/blobs/uploads/1?_state=x",
		"http://r.example.com/up":              "https://r.example.com/up",
		"http://R.example.com:443/up":          "https://R.example.com:443/up",
		"http://r.example.com:5000/up":         "http://r.example.com:5000/up",
		"https://me:pw@store.example.com/up#x": "https://store.example.com/up",
		"":                                     "", "ftp://x/y": "", "javascript:1": "",
	} {
		resp := &http.Response{Request: &http.Request{URL: from}, Header: http.Header{"Location": {location}}}
		if u := Location(resp); (u != nil) != (want != "") || u != nil && u.String() != want {
			t.Errorf("%q: %v", location, u)
		}
	}
}

// Whoever gets the credentials of a registry is the registry, also where an error is
// made of what it says: a port that is said and one that is implied are the same.
func TestElsewhere(t *testing.T) {
	to := New(Config{})
	for address, urls := range map[string]map[string]bool{
		"r.example.com":     {"https://r.example.com/x": false, "https://r.example.com:443/x": false, "https://R.EXAMPLE.COM/x": false, "https://r.example.com:5000/x": true, "https://s.example.com/x": true},
		"r.example.com:443": {"https://r.example.com/x": false, "https://r.example.com:443/x": false, "http://r.example.com/x": true},
		"localhost:5000":    {"http://localhost:5000/x": false, "http://localhost/x": true},
		"docker.io":         {"https://registry-1.docker.io:443/x": false, "https://docker.io/x": true},
	} {
		k := &Request{Method: http.MethodPatch, Registry: to.Registry(address)}
		for text, want := range urls {
			u := must(url.Parse(text))
			resp := &http.Response{StatusCode: http.StatusUnauthorized, Request: &http.Request{URL: u}, Header: http.Header{}, Body: http.NoBody}
			if got := k.redirected(resp); got != want {
				t.Errorf("%s at %s: %t", address, text, got)
			}
			if is := errors.Is(k.refusal(resp), ErrCredentials); is == want {
				t.Errorf("%s at %s: credentials: %t", address, text, is)
			}
		}
	}
}

// The error about plain http where https is expected names the setting that allows it.
func TestPlainHTTPSetting(t *testing.T) {
	to := New(Config{})
	e := &Error{Op: "GET", Host: "registry.local:5000", Err: http.ErrSchemeMismatch}
	e.classify(to.Registry("registry.local:5000"))
	if e.Setting != "PlainHTTP" || e.SettingHost != "registry.local:5000" || e.Hint() != "" {
		t.Errorf("setting %q of %q, hint %q", e.Setting, e.SettingHost, e.Hint())
	}
}

// A name that does not exist is told from a name server that does not answer, whose refusal
// is not that of the registry.
func TestNameServer(t *testing.T) {
	for _, test := range []struct {
		err  net.DNSError
		kind Kind
		hint string
	}{
		{net.DNSError{Err: "no such host", Name: "registry.local", IsNotFound: true}, KindUnreachable, "check the registry's name"},
		{net.DNSError{Err: "server misbehaving", Name: "registry.local", IsTemporary: true}, KindConnection, "the name server did not answer: check the network connection"},
		{net.DNSError{UnwrapErr: syscall.ECONNREFUSED, Err: "read: connection refused", Name: "registry.local", IsTemporary: true}, KindConnection, "the name server did not answer: check the network connection"},
		{net.DNSError{Err: "i/o timeout", Name: "registry.local", IsTimeout: true}, KindConnection, "the name server did not answer: check the network connection"},
	} {
		e := &Error{Op: "GET", Err: &net.OpError{Op: "dial", Err: &test.err}}
		e.classify(New(Config{}).Registry("registry.local:5000"))
		if e.Kind() != test.kind || e.Hint() != test.hint {
			t.Errorf("%v: %s, %q", &test.err, e.Kind(), e.Hint())
		}
	}
}

// What only a public registry named is not dialled in a private network.
func TestDialStrictly(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	to := New(Config{})
	at := server.Listener.Addr().String()
	if _, err := to.dial(true)(t.Context(), "tcp", at); !errors.As(err, new(address.Error)) {
		t.Errorf("got %v", err)
	}
	_, port, _ := net.SplitHostPort(at)
	for _, spelling := range []string{"localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "[::]"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if conn, err := to.dial(true)(ctx, "tcp", spelling+":"+port); err == nil {
			_ = conn.Close()
			t.Errorf("%s was dialled", spelling)
		}
		cancel()
	}
	h := to.Registry(at)
	if to.isPrivate(h) {
		t.Error("private before it was dialled")
	}
	conn, err := to.dial(false)(t.Context(), "tcp", at)
	if err != nil || !to.isPrivate(h) {
		t.Fatal(err, to.isPrivate(h))
	}
	_ = conn.Close()
	if _, err := to.dial(false)(t.Context(), "tcp", "169.254.169.254:80"); !errors.As(err, new(address.Error)) {
		t.Errorf("got %v", err)
	}
}

// An error is found as what the request says of its status, until it is explained by
// another cause. Only a question has such a meaning.
func TestErrorMeans(t *testing.T) {
	absent, silent := errors.New("absent"), errors.New("silent")
	h := New(Config{}).Registry("r.example.com")
	for _, test := range []struct {
		method string
		status int
		want   error
		kind   Kind
	}{
		{http.MethodGet, 404, absent, KindNotFound},
		{http.MethodHead, 404, absent, KindNotFound},
		{http.MethodPut, 404, nil, KindRefused},
		{http.MethodHead, 405, silent, KindRefused},
		{http.MethodGet, 403, silent, KindUnauthorized},
		{http.MethodPost, 405, nil, KindRefused},
		{http.MethodGet, 401, nil, KindUnauthorized},
		{http.MethodGet, 429, nil, KindRateLimited},
		{http.MethodGet, 503, nil, KindServerError},
	} {
		r := &Request{Method: test.method, Registry: h, NotFound: absent, Unanswered: silent}
		resp := &http.Response{
			StatusCode: test.status, Header: http.Header{}, Body: http.NoBody,
			Request: &http.Request{URL: must(url.Parse("https://r.example.com/v2/"))},
		}
		e := r.refusal(resp)
		for _, means := range []error{absent, silent} {
			if errors.Is(e, means) != errors.Is(test.want, means) {
				t.Errorf("%s %d is %q: %t", test.method, test.status, means, errors.Is(e, means))
			}
		}
		if e.Kind() != test.kind {
			t.Errorf("%s %d: kind %s", test.method, test.status, e.Kind())
		}
		other := Explained(e, errors.New("why"), "what to do")
		if errors.Is(other, absent) || errors.Is(other, silent) != errors.Is(test.want, silent) || other.Hint() != "what to do" || e.Err != nil {
			t.Errorf("%s %d is explained as %v, from %v", test.method, test.status, other, e)
		}
		if over := Overruled(e, nil, ""); errors.Is(over, ErrCredentials) || over.Hint() == "what to do" {
			t.Errorf("%s %d is overruled as %v", test.method, test.status, over)
		}
		r.NotFound, r.Unanswered = nil, nil
		if e := r.refusal(resp); errors.Is(e, absent) || errors.Is(e, silent) || e.Kind() == KindNotFound {
			t.Errorf("%s %d means something that no request says: %v", test.method, test.status, e)
		}
	}
	if e := (&Request{Method: http.MethodHead, Registry: h, NotFound: absent}).Answer(404, nil); !errors.Is(e, absent) || !e.final {
		t.Errorf("a 404 that is known: %v", e)
	}
}

func TestErrorText(t *testing.T) {
	e := &Error{Op: "HEAD", Host: "registry.example.com", Repository: "acme/app", Reference: "v1", Status: 401, Codes: []string{"UNAUTHORIZED"}, Err: errors.New("authentication required"), Attempts: 3}
	if got := e.Error(); got != "HEAD registry.example.com/acme/app:v1: 401 UNAUTHORIZED: authentication required (3 attempts)" {
		t.Error(got)
	}
	e = &Error{Op: "GET", Host: "h", Repository: "r", Reference: "sha256:ab", Status: 404}
	if got := e.Error(); got != "GET h/r@sha256:ab: 404 Not Found" {
		t.Error(got)
	}
	e = &Error{Op: "GET", Host: "h", Err: errors.New("malformed header \x1b[31m\r\n\u202e" + strings.Repeat("x", 1<<20))}
	if got := e.Error(); len(got) > 600 || strings.ContainsAny(got, "\x1b\r\n\u202e") {
		t.Errorf("%q", got)
	}
}

func TestRedact(t *testing.T) {
	u := must(url.Parse("https://me:pw@h/v2/a/blobs/uploads/1?digest=sha256:ab&_state=secret&X-Amz-Signature=secret#secret"))
	if got := redact(u); got != "https://h/v2/a/blobs/uploads/1?digest=sha256%3Aab&…" {
		t.Error(got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
