package faults

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// inChunks are the requests of a push to a registry that does not accept a blob in one
// request.
var inChunks = []struct{ name, method, path string }{
	{"PATCH", "PATCH", "/uploads/"},
	{"PUT that ends", "PUT", `/uploads/.*digest=`},
}

// Faults during the upload of a blob in chunks cost only repetitions.
func TestPushInChunks(t *testing.T) {
	for _, kind := range inChunks {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{})
			var cases []kase
			for i, status := range []int{500, 503, 408, 429} {
				cases = append(cases, kase{fault: regtest.Fault{Status: status, Times: 1 + 2*(i%2)}})
			}
			for _, action := range []regtest.Action{regtest.Close, regtest.Abort} {
				for _, phase := range []regtest.Phase{regtest.Before, regtest.Answer, regtest.Up} {
					if phase != regtest.Up || kind.method == "PATCH" {
						cases = append(cases, kase{cut: true, fault: regtest.Fault{Phase: phase, After: 100, Action: action}})
					}
				}
			}
			for _, phase := range []regtest.Phase{regtest.Before, regtest.Up, regtest.Answer} {
				if phase != regtest.Up || kind.method == "PATCH" {
					cases = append(cases, kase{fault: regtest.Fault{Phase: phase, After: 100, Status: 401, Header: challenge(b.Host)}})
				}
			}
			cases = append(cases, kase{want: refusedByRegistry, fault: regtest.Fault{Status: 503, Times: -1}})
			for _, k := range cases {
				k.first, k.fault.Method, k.fault.Path = chunked, kind.method, kind.path
				b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
			}
		})
	}
}

// challenge requires a token without a scope.
func challenge(host string) http.Header {
	return http.Header{"Www-Authenticate": {`Bearer realm="http://` + host + `/token",service="regtest"`}}
}

// Credentials that expire before, during or after a request are renewed. A registry that
// answers every token with a challenge gets at most two requests.
func TestPushChallenged(t *testing.T) {
	for _, kind := range requests[1:] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{TokenLife: time.Hour})
			for _, phase := range []regtest.Phase{regtest.Before, regtest.Up, regtest.Answer} {
				if phase == regtest.Up && kind.method != "PUT" {
					continue
				}
				k := kase{cut: kind.method == "POST", new: kind.method == "POST", attached: kind.attached, fault: regtest.Fault{
					Method: kind.method, Path: kind.path, Phase: phase, After: 100, Status: 401, Header: challenge(b.Host),
				}}
				b.moments(t, k, func(t *testing.T, nth int) {
					if kind.method == "HEAD" && nth == 2 && kind.path == "/manifests/v1" {
						k.want = credentials // the first was refused, as expected: two in a row
					}
					b.strike(t, k, nth)
				})
			}
			loop := kase{want: credentials, attached: kind.attached, fault: regtest.Fault{
				Method: kind.method, Path: kind.path, Status: 401, Times: -1, Header: challenge(b.Host),
			}}
			b.moments(t, loop, func(t *testing.T, nth int) { b.strike(t, loop, nth) })
		})
	}
}

// A registry with a Retry-After gets no request until then. If the time is too long or
// invalid, it gets as many as any other.
func TestPushThrottled(t *testing.T) {
	for _, kind := range requests {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, regtest.Options{})
			for _, one := range []struct {
				header string
				least  time.Duration
				want   outcome
			}{
				{header: "2", least: 2 * time.Second},
				{header: time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat), least: 20 * time.Second},
				{header: "0"},
				{header: "-1"},
				{header: "abc"},
				{header: "1000000000", want: refusedByRegistry},
			} {
				k := kase{want: one.want, least: one.least, new: kind.name != "HEAD child", attached: kind.attached, fault: regtest.Fault{
					Method: kind.method, Path: kind.path, Status: 429, Header: http.Header{"Retry-After": {one.header}},
				}}
				b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
			}
		})
	}
}

// If a response is lost, a registry with immutable tags has the manifest and refuses it the
// second time: the push succeeds.
func TestPushImmutable(t *testing.T) {
	b := start(t, regtest.Options{})
	for _, action := range []regtest.Action{regtest.Close, regtest.Abort} {
		for _, kind := range []struct{ method, path string }{{"PUT", "/manifests/v1"}, {"PUT", "/manifests/sha256"}} {
			refuses := regtest.Fault{Method: kind.method, Path: "/manifests/v1", Nth: 2, Times: -1, Status: 409, Body: `{"errors":[{"code":"DENIED","message":"immutable"}]}`}
			k := kase{cut: true, new: true, fault: regtest.Fault{Method: kind.method, Path: kind.path, Phase: regtest.Answer, Action: action}}
			b.moments(t, k, func(t *testing.T, nth int) {
				b.Inject(refuses)
				b.strike(t, k, nth)
			})
		}
	}
}

// Content that was just pushed and that the registry does not show yet is requested again.
func TestPushUnseenParts(t *testing.T) {
	b := start(t, regtest.Options{})
	for _, path := range []string{"/manifests/v1", "/manifests/sha256"} {
		for _, code := range []string{"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"} {
			for _, times := range []int{1, 3} {
				k := kase{fault: regtest.Fault{
					Method: "PUT", Path: path, Times: times, Status: 404, Body: `{"errors":[{"code":"` + code + `","message":"unknown"}]}`,
				}}
				b.moments(t, k, func(t *testing.T, nth int) { b.strike(t, k, nth) })
			}
		}
	}
}

// readRefusal returns the outcome of a read that is always answered with a status.
func readRefusal(kind string, status int) outcome {
	hidden := status == 403 || status == 404 // as what is missing is, in some registries
	switch {
	case kind == "referrers", kind == "fallback tag" && hidden:
		return done // the registry has no such API, or the subject no referrers
	case status == 403:
		return credentials
	}
	return refusedByRegistry
}

// Other reads of a registry succeed after one failure or three, or after a lost response.
// Otherwise the error names the request.
func TestReadFaults(t *testing.T) {
	b := start(t, regtest.Options{})
	idx := program(t, 300)
	if err := b.direct().Put(t.Context(), b.Judge()+"/app:v1", idx); err != nil {
		t.Fatal(err)
	}
	subject := must(idx.Digest())(t)
	for _, one := range []struct {
		name, path, repo string
		ask              func(*registry.Client) error
	}{
		{"ping", "^/v2/$", "", func(c *registry.Client) error { return c.Login(t.Context(), b.Host) }},
		{"tags", "/tags/list", "app", func(c *registry.Client) error { _, err := c.Tags(t.Context(), b.Host+"/app"); return err }},
		{"referrers", "/referrers/", "app", func(c *registry.Client) error {
			_, err := c.Referrers(t.Context(), b.Host+"/app:v1", subject)
			return err
		}},
		{"fallback tag", "/manifests/sha256-", "app", func(c *registry.Client) error {
			_, err := c.Referrers(t.Context(), b.Host+"/app:v1", subject)
			return err
		}},
		{"HEAD", "/manifests/v1", "app", func(c *registry.Client) error { _, err := c.Resolve(t.Context(), b.Host+"/app:v1"); return err }},
	} {
		try := func(f regtest.Fault, want outcome) {
			b.Reset()
			f.Path = one.path
			b.Inject(f)
			for _, want := range []outcome{want, done} { // the run with faults, and one without
				c, _ := b.client()
				err := one.ask(c)
				if !want.holds(err) {
					t.Errorf("%s, %s: %v", one.name, kase{fault: f}, err)
				}
				b.checkError(t, err, one.repo)
				if want != done && len(b.Requests()) > 12 {
					t.Errorf("%s, %s: %d requests", one.name, kase{fault: f}, len(b.Requests()))
				}
				b.Reset()
			}
		}
		for _, status := range []int{500, 502, 503, 504, 408, 429, 499, 522} {
			for _, times := range []int{1, 3} {
				try(regtest.Fault{Status: status, Times: times}, done)
			}
			try(regtest.Fault{Status: status, Times: -1}, refusedByRegistry)
		}
		for _, action := range []regtest.Action{regtest.Close, regtest.Abort} {
			for _, phase := range []regtest.Phase{regtest.Before, regtest.Answer} {
				try(regtest.Fault{Phase: phase, Action: action}, done)
			}
		}
		try(regtest.Fault{Status: 401, Header: challenge(b.Host)}, done)
		try(regtest.Fault{Status: 401, Header: challenge(b.Host), Times: -1}, credentials)
		limited := regtest.Fault{Status: 403, Body: "You have exceeded a secondary rate limit."}
		if one.name != "HEAD" { // has no body
			try(limited, done)
			limited.Times = -1
			try(limited, refusedByRegistry)
		}
		for _, status := range []int{403, 404, 405, 413, 415} {
			try(regtest.Fault{Status: status, Times: -1, Body: "<html>\x1b[31m</html>"}, readRefusal(one.name, status))
		}
	}
}

// Without credentials, the error says to log in, and nothing is sent.
func TestPushNobody(t *testing.T) {
	b := start(t, regtest.Options{})
	c := &registry.Client{Keychain: authn.NewMultiKeychain()}
	err := push(t.Context(), c, b.Host+"/app", program(t, 300))
	if !errors.Is(err, registry.ErrCredentials) {
		t.Errorf("got %v", err)
	}
	for _, r := range b.Requests() {
		if r.Up > 0 {
			t.Errorf("%s sent %d bytes", r.Kind(), r.Up)
		}
	}
}
