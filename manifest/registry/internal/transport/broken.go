package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/mabuild/mabuild/internal/address"
)

// A refused error is the client's own refusal to continue, for example at a redirect to
// plain HTTP. It is never retried.
type refused struct{ error }

// refuse marks err as a refusal, and isRefused finds the mark in a chain.
func refuse(err error) error         { return refused{err} }
func (r refused) Unwrap() error      { return r.error }
func isRefused(err error) (yes bool) { return errors.As(err, new(refused)) }

// broken returns the error of a request without an answer. An error of the request's body
// comes first, since the transport's error only follows from it. The end of the caller's
// context is final.
func (r *Request) broken(ctx context.Context, watch *stallTimer, err error) *Error {
	if cause := r.Body.failure(); cause != nil && watch.outer.Err() == nil {
		e := r.Fault(cause)
		e.final = true
		return e
	}
	e := r.Fault(watch.why(ctx, err))
	e.classify(r.Registry)
	if watch.outer.Err() != nil {
		e.final = true
	}
	return e
}

// classify decides after a transport error whether another try can succeed, and sets the
// hint. Refusals, certificates and the wrong protocol are final. A refused connection and
// an unknown host get few tries (brief). Anything else, such as a reset connection, is
// tried as often as a 5xx.
func (e *Error) classify(h *Registry) {
	var (
		unknown  x509.UnknownAuthorityError
		wrong    x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		proxy    *proxyError
		dns      *net.DNSError
		denied   address.Error
		operated *net.OpError
	)
	switch {
	case isRefused(e.Err), errors.As(e.Err, &denied):
		e.final = true
	case errors.As(e.Err, &proxy):
		e.final = !Temporary(proxy.status)
		e.hint = "set the proxy with HTTPS_PROXY=http://user:password@host:port, and hosts without a proxy with NO_PROXY"
	case errors.As(e.Err, &operated) && operated.Op == "proxyconnect":
		e.brief = errors.Is(e.Err, syscall.ECONNREFUSED) || errors.As(e.Err, &dns) && dns.IsNotFound
		e.hint = "check HTTPS_PROXY and NO_PROXY, which select the proxy"
	case errors.Is(e.Err, http.ErrSchemeMismatch), errors.As(e.Err, new(tls.RecordHeaderError)):
		e.final = true
		e.Err = fmt.Errorf("%s %w", h.address, errPlain)
		e.Setting, e.SettingHost = "PlainHTTP", h.Name
	case errors.As(e.Err, &unknown):
		e.final = true
		e.Setting, e.SettingHost = "CAFile", h.Name
	case errors.As(e.Err, &wrong), errors.As(e.Err, &invalid), errors.As(e.Err, &verify):
		e.final = true
		e.Setting, e.SettingHost = "SkipVerify", h.Name
	case isAlert(e.Err):
		e.final = true
		e.Setting, e.SettingHost = "ClientCert", h.Name
	case errors.As(e.Err, &dns) && !dns.IsNotFound: // it may hold the refusal of a name server
		e.hint = "the name server did not answer: check the network connection"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		e.brief = true
		e.hint = "check that the registry is running at " + h.address
	case errors.As(e.Err, &dns) && dns.IsNotFound:
		e.brief = true
		e.hint = "check the registry's name"
	}
}

// errPlain replaces the errors of net/http and crypto/tls for a host that does not speak
// TLS.
var errPlain = errors.New("uses plain HTTP, but HTTPS is expected")

// isAlert reports whether the server ended the handshake with a TLS alert, as it does if
// it requires a client certificate. crypto/tls does not export the type of the alert; the
// operation of the net.OpError is its only sign.
func isAlert(err error) bool {
	var operated *net.OpError
	return errors.As(err, &operated) && operated.Op == "remote error"
}

// A proxyError is returned if a proxy refuses CONNECT.
type proxyError struct {
	proxy  string
	status int
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s answers %d %s", e.proxy, e.status, http.StatusText(e.status))
}
