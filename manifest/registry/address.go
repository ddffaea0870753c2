package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// An addressError says that an address may not be dialled.
type addressError struct {
	address netip.Addr
	reason  string
}

func (e addressError) Error() string { return fmt.Sprintf("%s is %s", e.address, e.reason) }

// metadata lists addresses at which clouds give out secrets and that are not
// link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	shared = netip.MustParsePrefix("100.64.0.0/10")
)

// embedded returns the IPv4 address that ip stands for, or ip.
func embedded(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

// isPrivate reports whether ip is of this machine or a private network.
func isPrivate(ip netip.Addr) bool {
	ip = embedded(ip)
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() || shared.Contains(ip)
}

// mayDial returns why ip may not be dialled. Link-local, multicast and metadata
// addresses never may; private ones only where the user led.
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

// dial connects for a transport. strict is for places that only a registry
// named. Proxies are the user's choice and may be anywhere.
func (w *transport) dial(strict bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, proxy := w.proxies.Load(address)
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
			w.dialled(address, conn.RemoteAddr())
		}
		return conn, err
	}
}

// dialled notes whether the registry at address is in a private network, from
// where it may send us to its neighbours.
func (w *transport) dialled(address string, at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !isPrivate(tcp.AddrPort().Addr()) {
		return
	}
	w.private.Store(address, true)
}

// isPrivate reports whether h was dialled at a private address.
func (w *transport) isPrivate(h *host) bool {
	for _, scheme := range []string{"https", "http"} {
		u := h.base(scheme)
		if _, ok := w.private.Load(net.JoinHostPort(u.Hostname(), portOf(u))); ok {
			return true
		}
	}
	return false
}
