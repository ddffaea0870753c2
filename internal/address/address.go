// Package address says which network addresses a client may connect to, if a server that it
// does not trust has named them.
package address

import (
	"fmt"
	"net/netip"
	"slices"
)

// An Error is the refusal to connect to an address. A registry can redirect a
// client to any address or name any token service. Without these checks a registry could
// make the client send requests to services in the client's own network (server-side
// request forgery).
//
// The checks are made on the address that was resolved, at the moment of the connection.
// A check of the name before would not hold, since DNS may answer differently the second
// time.
type Error struct {
	Address netip.Addr
	Reason  string
}

func (e Error) Error() string { return fmt.Sprintf("%s is %s", e.Address, e.Reason) }

// metadata lists the addresses of clouds' metadata services, which give out secrets, that
// are not link-local. The link-local ones, such as 169.254.169.254, are refused anyway.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// nat64 and sixToFour are the prefixes of IPv4 addresses in IPv6 (RFC 6052, RFC 3056), and shared the address space
// of carriers (RFC 6598), which is private.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	shared    = netip.MustParsePrefix("100.64.0.0/10")
)

// embedded returns the IPv4 address that is mapped or translated in ip, or ip without its
// zone.
func embedded(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	if sixToFour.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[2:]))
	}
	return ip
}

// Private reports whether ip belongs to this machine or to a private network.
func Private(ip netip.Addr) bool {
	ip = embedded(ip)
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() || shared.Contains(ip)
}

// Check returns an error if ip may not be dialled, else nil. Link-local, multicast and
// metadata addresses are always refused, private addresses only if strict is true, which is for addresses that the user has not named.
func Check(ip netip.Addr, strict bool) error {
	ip = embedded(ip)
	switch {
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), slices.Contains(metadata, ip):
		return Error{ip, "a link-local address or a cloud's metadata service, which is never used"}
	case strict && Private(ip):
		return Error{ip, "a private address, to which nothing that is public may lead"}
	}
	return nil
}
