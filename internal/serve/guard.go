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

// hostName is a DNS name in lower case, of at most 253 bytes.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// ParseHosts checks names under which a server is reached, DNS names or IP addresses
// without a port, and returns them as [Policy] wants them.
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

// normalise gives each spelling of a host the same text.
func normalise(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	return host
}

// allowed reports whether a host, with a port or without, is one under which the server
// is reached: a loopback name, the address at which this connection arrived, or one that
// the person named.
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

// withoutPort returns the host of HOST, HOST:PORT, [IPv6] or [IPv6]:PORT.
func withoutPort(hostport string) (host string, ok bool) {
	u := url.URL{Host: hostport}
	if parsed, err := url.Parse("http://" + hostport); err != nil || parsed.Host != hostport || parsed.User != nil {
		return "", false
	}
	return u.Hostname(), u.Hostname() != ""
}

// verdict says why a request is refused, or "" if it is not. A page that a browser shows
// under another name may not reach the server: neither by a name that its owner makes
// resolve to this machine (DNS rebinding), nor by a request to this server's own name.
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
