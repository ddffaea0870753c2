package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"syscall"

	"github.com/mabuild/mabuild/internal/address"
	"github.com/mabuild/mabuild/internal/hint"
)

// A Kind groups errors by their meaning for a user. docs/errors.md has a row for each.
type Kind string

// The kinds of an [Error].
const (
	KindUnauthorized   Kind = "unauthorized"    // 401, 403 but for rate limits, helper, token service
	KindNotFound       Kind = "not found"       // what was to be read does not exist
	KindRateLimited    Kind = "rate limited"    // 429, or a 403 that means a rate limit
	KindServerError    Kind = "server error"    // 5xx, 408, 499
	KindRefused        Kind = "refused"         // any other status
	KindInvalidContent Kind = "invalid content" // contradicts its digest, size or media type
	KindBlocked        Kind = "blocked"         // the client refuses an address, redirect or realm
	KindProxy          Kind = "proxy"           // the proxy refuses or is unreachable
	KindTLS            Kind = "tls"             // certificate, client certificate, or no TLS
	KindUnreachable    Kind = "unreachable"     // connection refused, no such host
	KindTimeout        Kind = "timeout"         // no progress for a minute
	KindConnection     Kind = "connection"      // cut, reset, or not HTTP
	KindCancelled      Kind = "cancelled"       // the context ended
)

// Kind returns the kind of e. The order matters: content that contradicts its digest is
// invalid content whatever the status, and a 403 that means a rate limit is not
// unauthorized.
func (e *Error) Kind() Kind {
	switch {
	case errors.Is(e.Err, hint.Content):
		return KindInvalidContent
	case e.refused():
		return KindUnauthorized
	case e.missing():
		return KindNotFound
	case e.throttled:
		return KindRateLimited
	case e.Status == 0:
		return kindOfTransport(e.Err)
	case Temporary(e.Status):
		return KindServerError
	}
	return KindRefused
}

// kindOfTransport returns the kind of an error without an answer.
func kindOfTransport(err error) Kind {
	var (
		dns      *net.DNSError
		operated *net.OpError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return KindCancelled
	case errors.Is(err, errSilent):
		return KindTimeout
	case errors.As(err, new(address.Error)), isRefused(err):
		return KindBlocked
	case errors.As(err, new(*proxyError)), errors.As(err, &operated) && operated.Op == "proxyconnect":
		return KindProxy
	case errors.Is(err, errPlain), errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)),
		errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(x509.UnknownAuthorityError)), isAlert(err):
		return KindTLS
	case errors.As(err, &dns) && !dns.IsNotFound:
		return KindConnection
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &dns) && dns.IsNotFound:
		return KindUnreachable
	}
	return KindConnection
}
