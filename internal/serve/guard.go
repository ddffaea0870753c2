package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// hostName is the form of a DNS name in lower case. Underscores are allowed, since
// container networks use them.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// ParseHosts checks the names under which a server is reached, DNS names or IP addresses
// without a port, and returns them in the form that [Policy] compares.
func ParseHosts(names []string) ([]string, error) {
	var hosts []string
	for _, name := range names {
		host := normalise(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
		if _, err := netip.ParseAddr(host); err != nil && (len(host) > 253 || !hostName.MatchString(host)) {
			return nil, fmt.Errorf("%q is not a host name or an IP address; it has neither scheme nor port", name)
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// normalise returns one spelling for each host: in lower case, without a final dot, and
// IP addresses in their canonical form without zone.
func normalise(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	return host
}

// allowed reports whether a host, with or without a port, is one of this server: a
// loopback address or name, the address at which the connection of ctx arrived, or one of
// Hosts. Ports are ignored.
func (p Policy) allowed(ctx context.Context, hostport string) bool {
	host, ok := withoutPort(hostport)
	if !ok {
		return false
	}
	host = normalise(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsLoopback() {
			return true
		}
		local, _ := ctx.Value(http.LocalAddrContextKey).(net.Addr)
		if local != nil {
			if at, err := netip.ParseAddrPort(local.String()); err == nil && at.Addr().Unmap().WithZone("") == ip {
				return true
			}
		}
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(p.Hosts, host)
}

// withoutPort returns the host of HOST, HOST:PORT, [IPv6] or [IPv6]:PORT. It is false for
// anything that url.Parse would read differently, such as a user or a path.
func withoutPort(hostport string) (host string, ok bool) {
	u := url.URL{Host: hostport}
	if parsed, err := url.Parse("http://" + hostport); err != nil || parsed.Host != hostport || parsed.User != nil {
		return "", false
	}
	return u.Hostname(), u.Hostname() != ""
}

// verdict returns why a request is refused, or "". A web page of another site in a user's
// browser must not reach the server. Such a page has two ways. It can use its own host
// name and make DNS resolve that to this machine (DNS rebinding); then Host has that
// name. Or it can send requests to this server's name; then the browser sends Origin, or
// Sec-Fetch-Site where it sends no Origin. A client that is not a browser sends neither
// header.
func (p Policy) verdict(r *http.Request) string {
	if !p.allowed(r.Context(), r.Host) {
		return fmt.Sprintf("the host %.100q is not one of this server's; start it with %s NAME to permit one", r.Host, p.Flag)
	}
	origins := r.Header.Values("Origin")
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || !p.allowed(r.Context(), u.Host) {
			return fmt.Sprintf("a page of the origin %.100q may not use this server; start it with %s NAME to permit its host", origin, p.Flag)
		}
	}
	if len(origins) == 0 && slices.Contains(r.Header.Values("Sec-Fetch-Site"), "cross-site") {
		return fmt.Sprintf("a page of another site may not use this server; start it with %s NAME to permit a host", p.Flag)
	}
	return ""
}
