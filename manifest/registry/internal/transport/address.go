package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// An addressError is the refusal to connect to an address. A registry can redirect a
// client to any address or name any token service. Without these checks a registry could
// make the client send requests to services in the client's own network (server-side
// request forgery).
//
// The checks are made on the address that was resolved, at the moment of the connection.
// A check of the name before would not hold, since DNS may answer differently the second
// time.
type addressError struct {
	address netip.Addr
	reason  string
}

func (e addressError) Error() string { return fmt.Sprintf("%s is %s", e.address, e.reason) }

// metadata lists the addresses of clouds' metadata services, which give out secrets, that
// are not link-local. The link-local ones, such as 169.254.169.254, are refused anyway.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// nat64 is the prefix of IPv4 addresses in IPv6 (RFC 6052), and shared the address space
// of carriers (RFC 6598), which is private.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	shared = netip.MustParsePrefix("100.64.0.0/10")
)

// embedded returns the IPv4 address that is mapped or translated in ip, or ip without its
// zone.
func embedded(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

// isPrivate reports whether ip belongs to this machine or to a private network.
func isPrivate(ip netip.Addr) bool {
	ip = embedded(ip)
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() || shared.Contains(ip)
}

// mayDial returns an error if ip may not be dialled, else nil. Link-local, multicast and
// metadata addresses are always refused, private addresses only if strict is true.
func mayDial(ip netip.Addr, strict bool) error {
	ip = embedded(ip)
	switch {
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), slices.Contains(metadata, ip):
		return addressError{ip, "a link-local address or a cloud's metadata service, which is never used"}
	case strict && isPrivate(ip):
		return addressError{ip, "a private address, to which a public registry may not redirect"}
	}
	return nil
}

// dial returns the DialContext of an http.Transport. strict is true for addresses that
// only a registry named, not the user. A proxy is the user's choice and may have any
// address.
func (t *Transport) dial(strict bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, proxy := t.proxies.Load(address)
		d := net.Dialer{
			Timeout:   30 * time.Second,
			KeepAlive: 30 * time.Second,
			ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				at, err := netip.ParseAddrPort(resolved)
				if err != nil || proxy {
					return err
				}
				return mayDial(at.Addr(), strict)
			},
		}
		conn, err := d.DialContext(ctx, network, address)
		if err == nil && !proxy && !strict {
			t.dialled(address, conn.RemoteAddr())
		}
		return conn, err
	}
}

// dialled records that the registry at address has a private address. Such a registry may
// redirect to other private addresses, since its storage usually is beside it.
func (t *Transport) dialled(address string, at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !isPrivate(tcp.AddrPort().Addr()) {
		return
	}
	t.private.Store(address, true)
}

// isPrivate reports whether h was dialled at a private address in this run.
func (t *Transport) isPrivate(h *Registry) bool {
	for _, scheme := range []string{"https", "http"} {
		u := h.base(scheme)
		if _, ok := t.private.Load(net.JoinHostPort(u.Hostname(), portOf(u))); ok {
			return true
		}
	}
	return false
}
