package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// tokenServers maps the domain of a registry to the domain of its token service, if they
// differ. Both are registrable domains.
var tokenServers = map[string]string{
	"scw.cloud": "scaleway.com",
}

// parseRealm parses the URL of a token service. Plain HTTP is allowed only if the
// registry itself uses plain HTTP, and the token service is on the same host or on one
// where the user permits it.
func (a *auth) parseRealm(h *Registry, realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, errors.New("the registry gives no valid token server")
	}
	u.User, u.Fragment = nil, ""
	h.mu.Lock()
	scheme := h.scheme
	h.mu.Unlock()
	plain := scheme == "http" && (strings.EqualFold(u.Hostname(), hostnameOf(h.address)) || a.t.Registry(u.Host).mayPlain())
	if u.Scheme != "https" && (u.Scheme != "http" || !plain) {
		return nil, fmt.Errorf("the registry gives a token server without HTTPS: %s", Clean(u.Host))
	}
	return u, nil
}

// trusts reports whether the token service at realm may receive the credentials of h: it
// is on the same host with any port, in the same registrable domain, a known pair, or
// named by the user. A registry chooses its realm freely; without this rule it could make
// the client send the credentials to any host.
func (a *auth) trusts(h *Registry, realm *url.URL) bool {
	server, registry := strings.ToLower(realm.Hostname()), strings.ToLower(hostnameOf(h.address))
	if server == registry {
		return true
	}
	for _, named := range a.t.TrustRealms {
		if strings.EqualFold(named, realm.Host) || strings.EqualFold(named, server) {
			return true
		}
	}
	theirs, ours := registrable(server), registrable(registry)
	return theirs != "" && (theirs == ours || tokenServers[ours] == theirs)
}

// registrable returns the domain that one owner has registered, by the public suffix
// list; "" for addresses, public suffixes and single labels.
func registrable(hostname string) string {
	if _, err := netip.ParseAddr(hostname); err == nil {
		return ""
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimSuffix(hostname, "."))
	if err != nil {
		return ""
	}
	return domain
}
