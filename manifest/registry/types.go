package registry

import (
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// This file has the names of this package that are declared in its internal transport.
// go doc shows no fields and methods of an alias, so its comment lists them. A test
// compares the lists with the types.

// An Error is the failure of one request to a registry. errors.Is finds [ErrCredentials],
// [manifest.ErrNotFound] (a manifest to be read does not exist), [manifest.ErrUnanswered]
// (the registry refuses to say what a reference names) and what is in Err. All text in it
// is safe to print. An Error may be shared by several callers, so copy it before you
// change it. Its fields are:
//
//	Op          string    the method: HEAD, GET, PUT, …
//	Host        string    the registry, as in a reference
//	Repository  string    without the host; may be empty
//	Reference   string    a tag or a digest; may be empty
//	Status      int       0 when there was no answer
//	Codes       []string  the registry's error codes, cleaned
//	Attempts    int       tries; sending again after a 401 is part of the same try
//	Err         error     the cause, or the registry's message, cleaned; may be nil
//	Setting     string    the field of Client or Host that, set for SettingHost,
//	                      would have let the request succeed or be sent; may be empty
//	SettingHost string    the registry or token service for Setting
//
// Its methods are:
//
//	Error() string                 one line that is safe to print, whatever the registry sent
//	Unwrap() error                 the cause
//	Is(target error) bool          whether the error stands for one of those above
//	Kind() Kind                    what it means for a user
//	Hint() string                  what to do, or ""
//	RetryAt() (time.Time, bool)    when another try makes sense, if that is known: the
//	                               registry asked to wait for longer than a run waits, or a
//	                               quota is used up. If a request could not be sent because
//	                               its body could not be read, the time is that of the body's
//	                               error.
//	InvalidManifest() bool         whether the registry refuses a manifest because of its
//	                               content: 400 with the code MANIFEST_INVALID. Old
//	                               registries answer so for media types that they do not
//	                               support.
type Error = transport.Error

// A Kind groups errors by their meaning for a user. It is a string, such as "not found";
// docs/errors.md has a row for each.
type Kind = transport.Kind

// The kinds of an [Error].
const (
	KindUnauthorized   Kind = transport.KindUnauthorized   // 401, 403 but for rate limits, helper, token service
	KindNotFound       Kind = transport.KindNotFound       // a manifest to be read does not exist
	KindRateLimited    Kind = transport.KindRateLimited    // 429, or a 403 that means a rate limit
	KindServerError    Kind = transport.KindServerError    // 5xx, 408, 499
	KindRefused        Kind = transport.KindRefused        // any other status
	KindInvalidContent Kind = transport.KindInvalidContent // contradicts its digest, size or media type
	KindBlocked        Kind = transport.KindBlocked        // the client refuses an address, redirect or realm
	KindProxy          Kind = transport.KindProxy          // the proxy refuses or is unreachable
	KindTLS            Kind = transport.KindTLS            // certificate, client certificate, or no TLS
	KindUnreachable    Kind = transport.KindUnreachable    // connection refused, no such host
	KindTimeout        Kind = transport.KindTimeout        // no progress for a minute
	KindConnection     Kind = transport.KindConnection     // cut, reset, or not HTTP
	KindCancelled      Kind = transport.KindCancelled      // the context ended
)

// A Host has the settings of one registry. The zero value means https, the system's
// certificate authorities and no registry mirror. Its fields are:
//
//	PlainHTTP    bool      permits plain HTTP. HTTPS is tried first; HTTP is used only if
//	                       the host does not speak TLS. This is decided once in a run.
//	                       Loopback addresses and localhost need no permission.
//	SkipVerify   bool      accepts any certificate of the host
//	Mirrors      []string  are tried first for reads, in this order. Each is host[:port] or
//	                       host[:port]/path; the mirror has the repositories of this host
//	                       below that path. Content that a mirror returns for a digest is
//	                       verified. What it says a tag names is believed.
//	MaxRequests  int       bounds the requests in flight, in place of the Client's
//	                       MaxPerHost; 0 leaves that in force
//	PerSecond    float64   bounds the requests that begin in one second, at most two of
//	                       them at once; 0 means no bound. Requests to a token service do
//	                       not count.
//	QuotaReserve int       overrides the Client's; 0 leaves that in force
//	CAFile       string    overrides the Client's
//	ClientCert   string    overrides the Client's
//	ClientKey    string    overrides the Client's
type Host = transport.Host

// Limits hold how hosts are treated: the requests in flight and per second, the pauses
// that registries asked for, and their quotas. Several Clients, one after another or at
// once, may share them; the settings are those of the first Client that uses a host. The
// zero value is ready to use. Limits are safe for concurrent use. Their method is:
//
//	Forget(host string)    drops the limits of a host, so that the next Client that uses it
//	                       sets new ones. Requests and Clients that have the old limits
//	                       keep them.
type Limits = transport.Limits

// A Quota is the number of manifests that a registry allows to be read in a window of
// time. Docker Hub sends it with each answer about a manifest. HEAD requests have it too,
// but do not count. Its fields are:
//
//	Limit     int            in one window
//	Remaining int            the registry's last number, less the requests since
//	Window    time.Duration  the time after which the quota is full again
type Quota = transport.Quota

// ErrCredentials is in the chain of every error that means missing, wrong or insufficient
// credentials: a 401, a 403 that is not a rate limit, a credential helper that fails, a
// token service that may not have the credentials.
var ErrCredentials error = transport.ErrCredentials

// DefaultKeychain has the credentials of Docker and Podman: of the file that
// REGISTRY_AUTH_FILE names, of Docker's configuration (DOCKER_CONFIG), and of Podman's
// auth.json, in this order; docs/cli.md has the complete list. A file without credentials
// for a host is skipped. It is an [authn.ContextKeychain]: a credential helper is killed
// with all processes that it started when the context ends. The files are read at each
// call.
var DefaultKeychain authn.Keychain = transport.DefaultKeychain

// ConfigKeychain returns a keychain like [DefaultKeychain] for one file only: a file of
// Docker's or Podman's, or config.json in a directory. It is read once, here.
func ConfigKeychain(path string) (authn.Keychain, error) { return transport.ConfigKeychain(path) }
