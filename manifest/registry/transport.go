package registry

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

	"golang.org/x/net/http/httpproxy"

	"github.com/mabuild/mabuild/internal/once"
)

// A transport sends all requests of a Client. From outside in, its methods are: do
// (retries), attempt (credentials), exchange (pause, permit, quota), follow (redirects),
// send (one HTTP request). It interprets no manifests. It is safe for concurrent use.
type transport struct {
	agent          string
	log            *slog.Logger
	sleep          func(context.Context, time.Duration) error
	settings       map[string]Host // by canonical name
	files          Host            // the client's own CAFile, ClientCert, ClientKey
	perHost        int
	reserve        int           // pulls to leave, see Client.QuotaReserve
	patience       time.Duration // see the constant; tests reduce it
	cleanupTimeout time.Duration // see the constant; tests change it
	auth           *auth
	limits         *Limits
	mu             sync.Mutex // guards hosts and transports
	hosts          map[string]*host
	transports     map[transportKey]*http.Transport
	probes         once.Flight[string, string] // running probes, by host
	proxyFor       func(*url.URL) (*url.URL, error)
	proxies        sync.Map // host:port of the proxies in use
	private        sync.Map // host:port of registries that resolved to a private address
}

// newTransport returns the transport of a Client with the defaults for unset fields.
func newTransport(c *Client) *transport {
	w := &transport{
		agent:          cmp.Or(c.UserAgent, "mabuild"),
		log:            c.Log,
		sleep:          c.Sleep,
		settings:       map[string]Host{},
		files:          Host{CAFile: c.CAFile, ClientCert: c.ClientCert, ClientKey: c.ClientKey},
		perHost:        cmp.Or(c.MaxPerHost, defaultPerHost),
		reserve:        c.QuotaReserve,
		patience:       patience,
		cleanupTimeout: cleanupTimeout,
		proxyFor:       httpproxy.FromEnvironment().ProxyFunc(),
		limits:         cmp.Or(c.Limits, new(Limits)),
		hosts:          map[string]*host{},
		transports:     map[transportKey]*http.Transport{},
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.sleep == nil {
		w.sleep = sleep
	}
	for registry, settings := range c.Hosts {
		w.settings[canonical(registry)] = settings
	}
	w.auth = newAuth(w, c.Keychain, c.TrustRealms)
	return w
}

// sleep waits for d or until ctx ends, and then returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A requestKind is what a request is about. Other distinctions follow from kind and
// method: a GET of a manifest is a pull, which quotas count; a GET of a blob has a
// separate semaphore.
type requestKind int

const (
	kindOther    requestKind = iota
	kindManifest             // 404 to a GET or HEAD means that the manifest does not exist
	kindListing              // 404 means that the repository does not exist
	kindBlob
	kindToken // to a token service
)

// A policy says how a request is sent. Policies may be combined.
type policy int

const (
	noRetry      policy = 1 << iota // sent once; the caller decides about repetitions
	opensSession                    // the answer is awaited for openTimeout after ctx ends
	cleanup                         // sent as the run ends: needs no permit
)

// A request is one request to a registry, without credentials. It may be sent several
// times, with retries, after a challenge or to mirrors, but never by two goroutines at
// once.
type request struct {
	method string
	host   *host
	path   string     // below /v2/
	query  url.Values // of path
	url    *url.URL   // a URL that the registry gave, in place of path and query
	header http.Header
	body   *requestBody // nil: none
	scopes []string     // the scopes of its token; a challenge may add some
	want   []int        // statuses that are not an error
	kind   requestKind
	policy policy

	from *host // the host that answered, set by Client.read; may be a mirror

	repo, ref string // for errors and the keychain
}

// is reports whether the request has policy p.
func (k *request) is(p policy) bool { return k.policy&p != 0 }

// pulls reports whether the request reads a manifest.
func (k *request) pulls() bool { return k.kind == kindManifest && k.method == http.MethodGet }

// do sends the request until it has an answer, the retries end or ctx ends. An error is
// an *Error. The caller must close the body of the answer, which gives the permit back.
func (w *transport) do(ctx context.Context, k *request) (*http.Response, error) {
	if k.is(noRetry) {
		return w.try(ctx, k)
	}
	r := w.retries(k.host)
	for {
		resp, err := w.try(ctx, k)
		if err == nil {
			return resp, nil
		}
		if err := r.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// try sends the request, with new credentials if the registry sends a challenge, and
// explains a wrong upload location.
func (w *transport) try(ctx context.Context, k *request) (*http.Response, error) {
	resp, err := w.attempt(ctx, k)
	return resp, k.astray(ctx, err)
}

// attempt sends the request once, and once more if the registry answers 401 with a
// challenge. An answer with a status that is not in want is an error. A chunk or blob in
// an upload session is not repeated here: the session may have taken a part of it, so the
// caller gets an error with renewed set and asks the session for its offset first.
func (w *transport) attempt(ctx context.Context, k *request) (*http.Response, error) {
	for challenged := false; ; challenged = true {
		authorization, err := w.auth.authorization(ctx, k)
		if err != nil {
			return nil, err
		}
		resp, err := w.exchange(ctx, k, authorization)
		if err != nil {
			return nil, err
		}
		switch {
		case slices.Contains(k.want, resp.StatusCode):
			return resp, nil
		case resp.StatusCode != http.StatusUnauthorized || challenged || k.kind == kindToken || k.redirected(resp):
			return nil, w.auth.explain(k, k.refusal(resp))
		}
		answerable, err := w.auth.challenged(ctx, k, resp.Header, authorization)
		if err != nil {
			discard(resp)
			return nil, err
		}
		if !answerable {
			e := k.refusal(resp)
			e.unchallenged(k, resp.Header, authorization)
			return nil, w.auth.explain(k, e)
		}
		if k.is(noRetry) && k.body != nil && k.url != nil {
			e := k.refusal(resp)
			e.renewed = true
			return nil, e
		}
		discard(resp)
	}
}

// unchallenged explains a 401 without a challenge that the client supports (RFC 9110,
// 15.5.2 requires one), if the request had no credentials.
func (e *Error) unchallenged(k *request, h http.Header, sent string) {
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
		e.Err = fmt.Errorf("the registry requires authentication by %s; mabuild supports Basic and Bearer", clean(strings.Join(schemes, ", ")))
		e.hint = "check for another server at " + k.host.address + "; a registry uses one of these two"
	default:
		e.Err = errors.New("the registry requires authentication, but the answer has no WWW-Authenticate header")
		e.hint = "check for a proxy in front of " + k.host.address + " that removes the header, or for another server in its place"
	}
}

// astray explains the failure of a request to a URL that the registry gave, if that URL
// is on the registry's host but lacks its port. A reverse proxy that does not pass on the
// port causes this. err may be nil.
func (k *request) astray(ctx context.Context, err error) error {
	e := asError(err)
	if e == nil || k.url == nil || k.kind == kindToken || k.url.Port() != "" || ctx.Err() != nil {
		return err
	}
	base := k.host.base(k.url.Scheme)
	if !strings.EqualFold(base.Hostname(), k.url.Hostname()) || portOf(base) == portOf(k.url) {
		return err
	}
	known := *e
	known.Err = fmt.Errorf("the registry redirects the upload to %s, without its port %s", clean(k.url.Scheme+"://"+k.url.Host), portOf(base))
	if e.Err != nil {
		known.Err = fmt.Errorf("%w: %w", known.Err, e.Err)
	}
	known.hint = "the proxy in front of " + k.host.address + " must pass on the Host header with its port (proxy_set_header Host $http_host in nginx)"
	return &known
}

// ended returns the error of a request that was not sent, because its context ended or
// its host asked for a long pause.
func (k *request) ended(err error) *Error {
	e := k.fault(err)
	e.final = true
	if closed := (closedError{}); errors.As(err, &closed) {
		e.throttled = true
		e.putOff(closed.until)
	}
	return e
}
