package registry

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
)

// A Host says what is special about one registry. The zero value is any
// registry: https, the system's certificate authorities, no mirror.
type Host struct {
	// PlainHTTP permits plain http: https is tried first, http only when the
	// host turns out not to speak TLS, decided once a run. Loopback addresses
	// and localhost need no permission.
	PlainHTTP bool
	// SkipVerify accepts whatever certificate the host shows.
	SkipVerify bool
	// Mirrors are asked first when reading, in this order, each host[:port] or
	// host[:port]/path: below that path the mirror has the repositories of this host.
	// What they give for a digest is verified; what they say of a tag is believed.
	Mirrors []string
	// MaxRequests bounds the requests in flight in place of the [Client]'s
	// MaxPerHost; 0 does not.
	MaxRequests int
	// PerSecond bounds how many requests are begun a second, two of them at once at
	// most; 0 does not. Requests to a token server do not count.
	PerSecond float64
	// QuotaReserve stands in for the [Client]'s; 0 leaves that in force.
	QuotaReserve int
	// CAFile, ClientCert and ClientKey stand in for the [Client]'s.
	CAFile, ClientCert, ClientKey string
}

// Docker Hub's name in references, in go-containerregistry and on the network.
const (
	hubName    = "docker.io"
	hubAddress = "registry-1.docker.io"
)

// A host is a registry and what the run has learnt about it.
type host struct {
	Host
	name    string // as in a reference
	address string // host[:port] on the network

	*hostLimits
	budget waitBudget

	mu     sync.Mutex
	scheme string // "" until decided
	dead   bool   // as a mirror: it failed in this run
	absent bool   // nobody was there, for all the tries that this is worth, nor has answered since
}

// canonical folds the names of Docker Hub into one.
func canonical(registry string) string {
	switch registry {
	case name.DefaultRegistry, hubAddress, hubName:
		return hubName
	}
	return strings.ToLower(registry)
}

// host returns the one host of that name.
func (w *transport) host(registry string) *host {
	key := canonical(registry)
	w.mu.Lock()
	defer w.mu.Unlock()
	if h, ok := w.hosts[key]; ok {
		return h
	}
	h := &host{name: key, address: key, Host: w.settings[key]}
	if key == hubName {
		h.address = hubAddress
	}
	h.hostLimits = w.limits.of(h, w.perHost)
	if !h.mayPlain() {
		h.scheme = "https"
	}
	w.hosts[key] = h
	return h
}

// mayPlain reports whether plain http is permitted.
func (h *host) mayPlain() bool { return h.PlainHTTP || isLocal(h.address) }

// isLocal reports whether address is localhost or a literal loopback address.
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

// sameOrigin reports whether credentials for one URL may go to the other:
// scheme, host and port are the same.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

// portOf returns the port of u, also the one that its scheme implies.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// base returns the URL below which the registry answers.
func (h *host) base(scheme string) *url.URL {
	return &url.URL{Scheme: scheme, Host: h.address, Path: "/v2/"}
}
