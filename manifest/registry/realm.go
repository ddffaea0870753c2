package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// tokenServers lists registries whose token server is in another registrable
// domain, both by that domain.
var tokenServers = map[string]string{
	"scw.cloud": "scaleway.com",
}

// parseRealm reads the URL of a token server. Plain http is for registries that
// are spoken to in plain http themselves, on hosts where that is permitted.
func (a *auth) parseRealm(h *host, realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, errors.New("the registry gives no valid token server")
	}
	u.User, u.Fragment = nil, ""
	h.mu.Lock()
	scheme := h.scheme
	h.mu.Unlock()
	plain := scheme == "http" && (strings.EqualFold(u.Hostname(), hostnameOf(h.address)) || a.w.host(u.Host).mayPlain())
	if u.Scheme != "https" && (u.Scheme != "http" || !plain) {
		return nil, fmt.Errorf("the registry gives a token server without HTTPS: %s", clean(u.Host))
	}
	return u, nil
}

// trusts reports whether the token server at realm may have the credentials of
// h: it is the same host on any port, in the same registrable domain, one of the
// known pairs, or named by the user.
func (a *auth) trusts(h *host, realm *url.URL) bool {
	server, registry := strings.ToLower(realm.Hostname()), strings.ToLower(hostnameOf(h.address))
	if server == registry {
		return true
	}
	for _, named := range a.realms {
		if strings.EqualFold(named, realm.Host) || strings.EqualFold(named, server) {
			return true
		}
	}
	theirs, ours := registrable(server), registrable(registry)
	return theirs != "" && (theirs == ours || tokenServers[ours] == theirs)
}

// registrable returns the domain that somebody registered and under which all
// names are theirs; "" for addresses and for names that nobody can register.
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
