package transport

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
)

// A Host has the settings of one registry. The zero value means https, the system's
// certificate authorities and no registry mirror.
type Host struct {
	// PlainHTTP permits plain HTTP. HTTPS is tried first; HTTP is used only if the host
	// does not speak TLS. This is decided once in a run. Loopback addresses and localhost
	// need no permission.
	PlainHTTP bool
	// SkipVerify accepts any certificate of the host.
	SkipVerify bool
	// Mirrors are tried first for reads, in this order. Each is host[:port] or
	// host[:port]/path; the mirror has the repositories of this host below that path.
	// Content that a mirror returns for a digest is verified. What it says a tag names is
	// believed.
	Mirrors []string
	// MaxRequests bounds the requests in flight, in place of the [Config]'s; 0
	// leaves that in force.
	MaxRequests int
	// PerSecond bounds the requests that begin in one second, at most two of them at
	// once; 0 means no bound. Requests to a token service do not count.
	PerSecond float64
	// QuotaReserve overrides the [Config]'s; 0 leaves that in force.
	QuotaReserve int
	// CAFile, ClientCert and ClientKey override the [Config]'s.
	CAFile, ClientCert, ClientKey string
}

// Docker Hub has one name in references and another on the network.
const (
	hubName    = "docker.io"
	hubAddress = "registry-1.docker.io"
)

// A Registry is a registry with what the run has learnt about it. There is one for each
// name in a Transport.
type Registry struct {
	Host
	Name    string // as in a reference
	address string // host[:port] on the network

	*hostLimits            // may be shared with other Clients
	budget      waitBudget // of this run

	mu     sync.Mutex // guards the fields below
	scheme string     // "" until decided
	absent bool       // unreachable in all tries, and no answer since
}

// canonical returns the name in lower case, and one name for all names of Docker Hub.
func canonical(registry string) string {
	switch registry {
	case name.DefaultRegistry, hubAddress, hubName:
		return hubName
	}
	return strings.ToLower(registry)
}

// Registry returns the registry of that name and creates it at the first use.
func (t *Transport) Registry(registry string) *Registry {
	key := canonical(registry)
	t.mu.Lock()
	defer t.mu.Unlock()
	if h, ok := t.registries[key]; ok {
		return h
	}
	h := &Registry{Name: key, address: key, Host: t.Hosts[key]}
	if key == hubName {
		h.address = hubAddress
	}
	h.hostLimits = t.Limits.of(h, t.MaxPerHost)
	if !h.mayPlain() {
		h.scheme = "https"
	}
	t.registries[key] = h
	return h
}

// mayPlain reports whether plain HTTP is permitted.
func (h *Registry) mayPlain() bool { return h.PlainHTTP || isLocal(h.address) }

// isLocal reports whether address is localhost or a literal loopback address. Other names
// are not resolved: DNS must not decide about encryption.
func isLocal(address string) bool {
	hostname := hostnameOf(address)
	if hostname == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(hostname)
	return err == nil && ip.Unmap().IsLoopback()
}

// hostnameOf returns the host of host[:port], without brackets.
func hostnameOf(address string) string {
	if hostname, _, err := net.SplitHostPort(address); err == nil {
		return hostname
	}
	return strings.Trim(address, "[]")
}

// sameOrigin reports whether credentials for one URL may be sent to the other: scheme,
// host and port are equal.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

// portOf returns the port of u, or the default port of its scheme.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// base returns the URL below which the registry answers (distribution-spec, "Endpoints").
func (h *Registry) base(scheme string) *url.URL {
	return &url.URL{Scheme: scheme, Host: h.address, Path: "/v2/"}
}
