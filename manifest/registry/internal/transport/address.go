package transport

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/mabuild/mabuild/internal/address"
)

// dial returns the DialContext of an http.Transport. strict is true for addresses that
// only a registry named, not the user. A proxy is the user's choice and may have any
// address.
func (t *Transport) dial(strict bool) func(ctx context.Context, network, to string) (net.Conn, error) {
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		_, proxy := t.proxies.Load(to)
		d := net.Dialer{
			Timeout:   30 * time.Second,
			KeepAlive: 30 * time.Second,
			ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				at, err := netip.ParseAddrPort(resolved)
				if err != nil || proxy {
					return err
				}
				return address.Check(at.Addr(), strict)
			},
		}
		conn, err := d.DialContext(ctx, network, to)
		if err == nil && !proxy && !strict {
			t.dialled(to, conn.RemoteAddr())
		}
		return conn, err
	}
}

// dialled records that the registry at a host and port has a private address. Such a registry may
// redirect to other private addresses, since its storage usually is beside it.
func (t *Transport) dialled(hostPort string, at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !address.Private(tcp.AddrPort().Addr()) {
		return
	}
	t.private.Store(hostPort, true)
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
