package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// A transportKey has the settings that an http.Transport cannot change. Requests with
// equal keys share a transport and its connections.
type transportKey struct {
	ca, cert, key string
	skip, strict  bool // no verification of certificates; no private addresses
}

// transportTo returns the http.Transport for a request to u on behalf of h. trusted says
// that u is h itself or a token service that may have its credentials. Settings of u's
// own host come first, then those of h if u is trusted. A client certificate identifies
// the user like a password, so only a trusted host gets it. The SkipVerify of h applies
// to h's own name only.
func (t *Transport) transportTo(h *Registry, u *url.URL, trusted bool) (*http.Transport, error) {
	settings, own := t.Hosts[canonical(u.Host)]
	if !own && trusted {
		settings = h.Host
		settings.SkipVerify = h.SkipVerify && strings.EqualFold(u.Hostname(), hostnameOf(h.address))
	}
	key := transportKey{
		ca:     cmp.Or(settings.CAFile, t.Files.CAFile),
		skip:   settings.SkipVerify,
		strict: !trusted && !t.isPrivate(h),
	}
	if trusted {
		key.cert = cmp.Or(settings.ClientCert, t.Files.ClientCert)
		key.key = cmp.Or(settings.ClientKey, t.Files.ClientKey)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if inner, ok := t.transports[key]; ok {
		return inner, nil
	}
	config, err := tlsConfig(key)
	if err != nil {
		return nil, err
	}
	inner := &http.Transport{
		Proxy:                 t.proxy,
		DialContext:           t.dial(key.strict),
		TLSClientConfig:       config,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // the bytes of the answer are counted and hashed
		MaxIdleConnsPerHost:   2 * t.MaxPerHost,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return &proxyError{proxy.Host, resp.StatusCode}
			}
			return nil
		},
	}
	t.transports[key] = inner
	return inner, nil
}

// proxy returns the proxy of a request, from the environment, which never has one for a
// loopback address. It records the proxy's address, which may be private although the
// registry's may not.
func (t *Transport) proxy(req *http.Request) (*url.URL, error) {
	u, err := t.proxyFor(req.URL)
	if u != nil {
		port := cmp.Or(u.Port(), map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme], "80")
		t.proxies.Store(net.JoinHostPort(u.Hostname(), port), true)
	}
	return u, err
}

// tlsConfig reads the files of a key. Authorities in a file are added to those of the
// system.
func tlsConfig(key transportKey) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: key.skip, //nolint:gosec // set by the user for this host
	}
	if key.ca != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(key.ca)
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authorities: no certificate in %s", key.ca)
		}
		config.RootCAs = pool
	}
	if key.cert != "" {
		pair, err := tls.LoadX509KeyPair(key.cert, cmp.Or(key.key, key.cert))
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// decide returns the scheme of h. It is decided once in a run and never changes then, so
// that an attacker who cuts connections cannot cause a change to plain HTTP in the
// middle. Only a host that may use plain HTTP is probed. An error is not a decision: the
// next request probes again.
func (t *Transport) decide(ctx context.Context, h *Registry) (string, error) {
	h.mu.Lock()
	known := h.scheme
	h.mu.Unlock()
	if known != "" {
		return known, nil
	}
	return Share(ctx, t.probes.Do, h.Name, func() (string, error) {
		h.mu.Lock()
		known := h.scheme
		h.mu.Unlock()
		if known != "" {
			return known, nil
		}
		scheme, err := t.probe(ctx, h)
		if err != nil {
			return "", err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.scheme = scheme
		return scheme, nil
	})
}

// probe finds out whether h speaks TLS, with a handshake that sends no request.
// Certificates are not verified here; the requests that follow do that.
func (t *Transport) probe(ctx context.Context, h *Registry) (string, error) {
	u := h.base("https")
	inner, err := t.transportTo(h, u, true)
	if err != nil {
		return "", refuse(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return "", refuse(err)
	}
	if proxy, err := t.proxy(req); proxy != nil && err == nil {
		// Through a proxy only a request shows it.
		resp, err := inner.RoundTrip(req)
		if err == nil {
			discard(resp)
		}
		return spoken(h, err)
	}
	conn, err := inner.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), portOf(u)))
	if err != nil {
		return spoken(h, err)
	}
	defer conn.Close()                                                                         //nolint:errcheck // nothing was said on it
	shake := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true}) //nolint:gosec // sends nothing
	return spoken(h, shake.HandshakeContext(ctx))
}

// spoken returns the scheme that the result of a handshake shows. A TLS alert is TLS. A
// refused connection on the default port is HTTP, since port 80 may be open; with a port
// in the name it is an error.
func spoken(h *Registry, err error) (string, error) {
	switch {
	case err == nil, isAlert(err):
		return "https", nil
	case errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, http.ErrSchemeMismatch):
		return "http", nil
	case errors.Is(err, syscall.ECONNREFUSED) && h.base("https").Port() == "":
		return "http", nil
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("%s closed the connection: %w", h.address, err)
	}
	return "", err
}
