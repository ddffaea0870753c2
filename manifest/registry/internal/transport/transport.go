// Package transport sends the requests of a registry client: HTTP, credentials, retries
// and limits. It knows no manifests and no tags: a request says how it is sent, and which
// errors a 404 or a refusal mean to its caller.
//
// All requests go through [Transport.Do]. Work that is more than one request, such as an
// upload that continues where it was cut, counts its tries with [Retries].
//
// Package registry has aliases of the types that its users need. Their comments list the
// fields and methods, since go doc shows none of an alias.
package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/net/http/httpproxy"

	"github.com/mabuild/mabuild/internal/once"
)

// defaultPerHost is the default of MaxPerHost: enough to hide the round trips of many
// small blobs, and few enough that public registries do not throttle it.
const defaultPerHost = 16

// A Config is what [New] needs. Each field has a default.
type Config struct {
	UserAgent    string
	Keychain     authn.Keychain  // nil means [DefaultKeychain]
	Hosts        map[string]Host // settings of single registries, by the name in a reference
	Files        Host            // CAFile, ClientCert and ClientKey for hosts that have none
	TrustRealms  []string        // hosts of token services that the user trusts
	MaxPerHost   int             // requests in flight to one host
	QuotaReserve int             // pulls to leave; 0 reserves nothing
	Limits       *Limits
	Log          *slog.Logger
	Sleep        func(context.Context, time.Duration) error
	Patience     time.Duration // see the constant; tests reduce it
	HelperLimit  time.Duration // see the constant; tests reduce it
}

// A Transport sends all requests of a client. From outside in, its methods are: Do
// (retries), attempt (credentials), exchange (pause, permit, quota), follow (redirects),
// send (one HTTP request). It is safe for concurrent use.
type Transport struct {
	Config     // with the defaults for unset fields; Hosts by canonical name
	auth       *auth
	mu         sync.Mutex // guards hosts and transports
	registries map[string]*Registry
	transports map[transportKey]*http.Transport
	probes     once.Flight[string, string] // running probes, by host
	proxyFor   func(*url.URL) (*url.URL, error)
	proxies    sync.Map // host:port of the proxies in use
	private    sync.Map // host:port of registries that resolved to a private address
}

// New returns a transport with the defaults for unset fields of c.
func New(c Config) *Transport {
	t := &Transport{
		Config:     c,
		proxyFor:   httpproxy.FromEnvironment().ProxyFunc(),
		registries: map[string]*Registry{},
		transports: map[transportKey]*http.Transport{},
	}
	t.UserAgent = cmp.Or(c.UserAgent, "mabuild")
	t.MaxPerHost = cmp.Or(c.MaxPerHost, defaultPerHost)
	t.Limits = cmp.Or(c.Limits, new(Limits))
	t.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	t.Patience = cmp.Or(c.Patience, patience)
	t.HelperLimit = cmp.Or(c.HelperLimit, helperLimit)
	if c.Keychain == nil {
		t.Keychain = DefaultKeychain
	}
	if c.Sleep == nil {
		t.Sleep = Sleep
	}
	t.Hosts = map[string]Host{}
	for registry, settings := range c.Hosts {
		t.Hosts[canonical(registry)] = settings
	}
	t.auth = newAuth(t)
	return t
}

// Backoff waits before the repetition n, counted from 1, of work that is not one request.
// The wait doubles each time.
func (t *Transport) Backoff(ctx context.Context, n int) error { return t.Sleep(ctx, firstWait<<(n-1)) }

// AwaitPause waits until the host may be asked, or until ctx ends.
func (t *Transport) AwaitPause(ctx context.Context, h *Registry) {
	if leave, err := h.pause.acquire(ctx, t.Sleep, NewSemaphore(1)); err == nil {
		leave()
	}
}

// Sleep waits for d or until ctx ends, and then returns the error of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A Policy says what a request is about and how it is sent. Policies may be combined.
type Policy int

// The policies of requests.
const (
	// NoRetry requests are sent once; the caller decides about repetitions.
	NoRetry Policy = 1 << iota
	// CountsAsPull is for content that a host with a [Quota] counts when it is read with
	// GET.
	CountsAsPull
	// Download is for content that an upload to the same host may read with GET. It has
	// permits of its own, since the upload holds a permit then.
	Download
	// OpensSession requests open an upload session. Their answer is awaited for
	// openTimeout after ctx ends, so that the session can be closed.
	OpensSession
	// Cleanup requests are sent as the run ends and need no permit.
	Cleanup

	toTokenService // answers do not count as those of the host
)

// A Request is one request to a registry, without credentials. It may be sent several
// times, with retries or after a challenge, but never by two goroutines at once.
type Request struct {
	Method   string
	Registry *Registry
	Path     string     // below /v2/
	Query    url.Values // of Path
	URL      *url.URL   // a URL that the registry gave, in place of Path and Query
	Header   http.Header
	Body     *Body    // nil: none
	Scopes   []string // the scopes of its token; a challenge may add some
	Want     []int    // statuses that are not an error
	Policy   Policy

	// NotFound is what a 404 to a GET or HEAD means. Unanswered is what a refusal means
	// that leaves open whether the content exists. errors.Is finds them in the [Error]. nil
	// means that no caller asks for it.
	NotFound, Unanswered error

	Repository, Reference string // for errors and the keychain
}

// is reports whether the request has policy p.
func (r *Request) is(p Policy) bool { return r.Policy&p != 0 }

// pulls reports whether the request counts for a quota.
func (r *Request) pulls() bool { return r.is(CountsAsPull) && r.Method == http.MethodGet }

// asks reports whether the request only reads.
func (r *Request) asks() bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// Do sends the request until it has an answer, the retries end or ctx ends. An error is
// an *Error. The caller must close the body of the answer, which gives the permit back.
func (t *Transport) Do(ctx context.Context, r *Request) (*http.Response, error) {
	if r.is(NoRetry) {
		return t.try(ctx, r)
	}
	tries := t.Retries(r.Registry)
	for {
		resp, err := t.try(ctx, r)
		if err == nil {
			return resp, nil
		}
		if err := tries.Again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// Ask is Do for a request of whose answer only the status and the headers are needed. The
// body is closed.
//
//bodyclose:handled
func (t *Transport) Ask(ctx context.Context, r *Request) (*http.Response, error) {
	resp, err := t.Do(ctx, r)
	if err == nil {
		discard(resp)
	}
	return resp, err
}

// try sends the request, with new credentials if the registry sends a challenge, and
// explains a wrong upload location.
func (t *Transport) try(ctx context.Context, r *Request) (*http.Response, error) {
	resp, err := t.attempt(ctx, r)
	return resp, r.astray(ctx, err)
}

// attempt sends the request once, and once more if the registry answers 401 with a
// challenge. An answer with a status that is not in Want is an error. A chunk or blob in
// an upload session is not repeated here: the session may have taken a part of it, so the
// caller gets an error with renewed set and asks the session for its offset first.
func (t *Transport) attempt(ctx context.Context, r *Request) (*http.Response, error) {
	for challenged := false; ; challenged = true {
		authorization, err := t.auth.authorization(ctx, r)
		if err != nil {
			return nil, err
		}
		resp, err := t.exchange(ctx, r, authorization)
		if err != nil {
			return nil, err
		}
		switch {
		case slices.Contains(r.Want, resp.StatusCode):
			return resp, nil
		case resp.StatusCode != http.StatusUnauthorized || challenged || r.is(toTokenService) || r.redirected(resp):
			return nil, t.auth.explain(r, r.refusal(resp))
		}
		answerable, err := t.auth.challenged(ctx, r, resp.Header, authorization)
		if err != nil {
			discard(resp)
			return nil, err
		}
		if !answerable {
			e := r.refusal(resp)
			e.unchallenged(r, resp.Header, authorization)
			return nil, t.auth.explain(r, e)
		}
		if r.is(NoRetry) && r.Body != nil && r.URL != nil {
			e := r.refusal(resp)
			e.renewed = true
			return nil, e
		}
		discard(resp)
	}
}

// unchallenged explains a 401 without a challenge that the client supports (RFC 9110,
// 15.5.2 requires one), if the request had no credentials.
func (e *Error) unchallenged(r *Request, h http.Header, sent string) {
	var schemes []string
	for _, one := range parseChallenges(h) {
		if one.scheme == "basic" || one.scheme == "bearer" {
			return
		}
		schemes = append(schemes, one.scheme)
	}
	switch {
	case sent != "":
	case len(schemes) > 0:
		e.Err = fmt.Errorf("the registry requires authentication by %s; mabuild supports Basic and Bearer", Clean(strings.Join(schemes, ", ")))
		e.hint = "check for another server at " + r.Registry.address + "; a registry uses one of these two"
	default:
		e.Err = errors.New("the registry requires authentication, but the answer has no WWW-Authenticate header")
		e.hint = "check for a proxy in front of " + r.Registry.address + " that removes the header, or for another server in its place"
	}
}

// astray explains the failure of a request to a URL that the registry gave, if that URL
// is on the registry's host but lacks its port. A reverse proxy that does not pass on the
// port causes this. err may be nil.
func (r *Request) astray(ctx context.Context, err error) error {
	e := As(err)
	if e == nil || r.URL == nil || r.is(toTokenService) || r.URL.Port() != "" || ctx.Err() != nil {
		return err
	}
	base := r.Registry.base(r.URL.Scheme)
	if !strings.EqualFold(base.Hostname(), r.URL.Hostname()) || portOf(base) == portOf(r.URL) {
		return err
	}
	known := *e
	known.Err = fmt.Errorf("the registry redirects the upload to %s, without its port %s", Clean(r.URL.Scheme+"://"+r.URL.Host), portOf(base))
	if e.Err != nil {
		known.Err = fmt.Errorf("%w: %w", known.Err, e.Err)
	}
	known.hint = "the proxy in front of " + r.Registry.address + " must pass on the Host header with its port (proxy_set_header Host $http_host in nginx)"
	return &known
}

// Stopped returns the error of the request after the end of ctx.
func (r *Request) Stopped(ctx context.Context) *Error { return r.ended(stopped(ctx)) }

// ended returns the error of a request that was not sent, because its context ended or
// its host asked for a long pause.
func (r *Request) ended(err error) *Error {
	e := r.Fault(err)
	e.final = true
	if closed := (closedError{}); errors.As(err, &closed) {
		e.throttled = true
		e.putOff(closed.until)
	}
	return e
}
