package transport

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
)

// ErrCredentials is in the chain of every error that means missing, wrong or insufficient
// credentials: a 401, a 403 that is not a rate limit, a credential helper that fails, a
// token service that may not have the credentials.
var ErrCredentials = hint.New(hint.Credentials, "", "credentials refused")

// An Error is the failure of one request to a registry. errors.Is finds [ErrCredentials],
// what the request says of a 404 or of a refusal to answer, and what is in Err. All text
// in it is safe to print. An Error may be shared by several callers, so it is copied
// before it is changed.
type Error struct {
	Op         string   // the method: HEAD, GET, PUT, …
	Host       string   // the registry, as in a reference
	Repository string   // without the host; may be empty
	Reference  string   // a tag or a digest; may be empty
	Status     int      // 0 when there was no answer
	Codes      []string // the registry's error codes, cleaned
	Attempts   int      // tries; sending again after a 401 is part of the same try
	Err        error    // the cause, or the registry's message, cleaned; may be nil

	// Setting is the field of the client or of [Host] that, set for SettingHost, would have
	// let the request succeed or be sent; may be empty.
	Setting, SettingHost string

	hint       string        // what to do; "" lets Hint find one
	overruled  bool          // Err says what the status means; it is not about credentials
	means      error         // NotFound or Unanswered of the request; nil: neither
	throttled  bool          // too many requests, whatever the status
	credential bool          // credentials were the cause without a 401 or 403
	redirected bool          // a host that the registry redirected to has answered
	renewed    bool          // a 401 in an upload session; the next try has new credentials
	final      bool          // another try is useless, or all tries are used up
	brief      bool          // the host is unreachable: few tries
	wait       time.Duration // from Retry-After; unsaid if there was none
	until      time.Time     // when another try makes sense; zero if unknown
}

// Error returns one line that is safe to print, whatever the registry sent.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Op, e.Host)
	if e.Repository != "" {
		b.WriteString("/" + e.Repository)
	}
	switch {
	case strings.Contains(e.Reference, ":"):
		b.WriteString("@" + e.Reference)
	case e.Reference != "":
		b.WriteString(":" + e.Reference)
	}
	b.WriteString(":")
	if e.Status != 0 {
		fmt.Fprintf(&b, " %d", e.Status)
		if len(e.Codes) > 0 {
			b.WriteString(" " + strings.Join(e.Codes, ", "))
		} else {
			b.WriteString(" " + http.StatusText(e.Status))
		}
	}
	if e.Err != nil {
		if e.Status != 0 {
			b.WriteString(":")
		}
		b.WriteString(" " + Clean(e.Err.Error()))
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (%d attempts)", e.Attempts)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether e stands for one of the errors that [Error] lists.
func (e *Error) Is(target error) bool {
	switch target {
	case hint.Registry:
		return true
	case ErrCredentials, hint.Credentials:
		return e.refused()
	}
	return e.means != nil && target == e.means
}

// refused reports whether credentials are the cause. An answer of a host that the
// registry redirected to does not count: a storage service answers 403 for an expired
// URL.
func (e *Error) refused() bool {
	if e.redirected || e.overruled {
		return false
	}
	return e.credential || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden && !e.throttled
}

// Hint says what to do, or is "".
func (e *Error) Hint() string {
	inner := hint.Of(e.Err)
	switch {
	case e.hint != "":
		return e.hint
	case e.setting() != "": // the caller knows how it is set
		return ""
	case e.refused() && inner != "":
		return inner
	case e.refused():
		return "mabuild login " + e.Host
	case e.Status == http.StatusNotFound && e.Op == http.MethodPost:
		return "some registries require that " + e.Repository + " is created before the first push"
	}
	return inner
}

// setting returns the Setting of e or, without a hint of another kind, of what it wraps.
func (e *Error) setting() string {
	inner := As(e.Err)
	if e.Setting != "" || e.hint != "" || inner == nil {
		return e.Setting
	}
	return inner.setting()
}

// RetryAt returns when another try makes sense, if that is known: the registry asked to
// wait for longer than a run waits, or a quota is used up. If a request could not be sent
// because its body could not be read, the time is that of the body's error.
func (e *Error) RetryAt() (time.Time, bool) {
	if inner := As(e.Err); e.until.IsZero() && inner != nil {
		return inner.RetryAt()
	}
	return e.until, !e.until.IsZero()
}

// InvalidManifest reports whether the registry refuses a manifest because of its content:
// 400 with the code MANIFEST_INVALID (distribution-spec, "Error Codes"). Old registries
// answer so for media types that they do not support.
func (e *Error) InvalidManifest() bool {
	return e.Op == http.MethodPut && e.Status == http.StatusBadRequest && HasCode(e, "MANIFEST_INVALID") && !e.overruled
}

// missing reports whether what was asked for does not exist.
func (e *Error) missing() bool { return e.means != nil && e.Status == http.StatusNotFound }

// The functions below are not methods, since the methods of Error are those of a public
// type.

// HasCode reports whether err has one of the codes of registries.
func HasCode(err error, codes ...string) bool {
	e := As(err)
	return e != nil && slices.ContainsFunc(e.Codes, func(c string) bool { return slices.Contains(codes, c) })
}

// As returns the *Error in err's chain, or nil.
func As(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	return e
}

// StatusOf returns the HTTP status in err, or 0 if there was no answer.
func StatusOf(err error) int {
	if e := As(err); e != nil {
		return e.Status
	}
	return 0
}

// Throttled reports whether err means that the registry limits the rate of requests.
func Throttled(err error) bool {
	e := As(err)
	return e != nil && e.throttled
}

// Redirected reports whether err is the answer of a host that the registry redirected to.
func Redirected(err error) bool {
	e := As(err)
	return e != nil && e.redirected
}

// Renewed reports whether err is a 401 in an upload session after which new credentials
// were obtained, so that the session can continue.
func Renewed(err error) bool {
	e := As(err)
	return e != nil && e.renewed
}

// Explained returns a copy of e with another cause and hint; "" keeps the hint. A 404 then
// is no longer what the request says of it.
func Explained(e *Error, cause error, hint string) *Error {
	known := *e
	known.Err, known.hint = cause, cmp.Or(hint, e.hint)
	if e.missing() {
		known.means = nil
	}
	return &known
}

// Overruled is [Explained] for a refusal that is not about credentials or content,
// whatever its status and codes say.
func Overruled(e *Error, cause error, hint string) *Error {
	known := Explained(e, cause, hint)
	known.overruled = true
	return known
}

// Fault returns an Error for a request, with the given cause. Invalid content and a
// refusal of the client are final.
func (r *Request) Fault(err error) *Error {
	return &Error{
		Op: r.Method, Host: r.Registry.Name, Repository: r.Repository, Reference: r.Reference, Attempts: 1, Err: err, wait: unsaid,
		final: isRefused(err) || errors.Is(err, hint.Content),
	}
}

// Answer returns the final Error for an answer with a status, which may be one that this
// run knows without a request.
func (r *Request) Answer(status int, err error) *Error {
	e := r.Fault(err)
	e.Status, e.final = status, true
	if r.asks() && status == http.StatusNotFound {
		e.means = r.NotFound
	}
	return e
}

// refusal returns the Error for an answer with an unexpected status. It reads and closes
// the body. It also records a pause that the registry asks for, so that other requests to
// the host wait, even if the caller does not repeat this one.
//
// A 403 of another host than the registry may mean that a signed URL has expired. Another
// try gets a new URL from the registry, so it is not final.
func (r *Request) refusal(resp *http.Response) *Error {
	e := r.Fault(nil)
	e.Status = resp.StatusCode
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // a part is enough
	discard(resp)
	var text string
	e.Codes, text = parseErrors(body)
	if text != "" {
		e.Err = errors.New(text)
	}
	e.throttled = resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusForbidden && limited(resp.Header, body)
	if e.wait = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()); e.throttled && e.wait == unsaid {
		e.wait = parseReset(resp.Header, time.Now())
	}
	e.redirected = r.redirected(resp)
	switch {
	case !r.asks():
	case resp.StatusCode == http.StatusNotFound:
		e.means = r.NotFound
	case !e.throttled && deniesQuestion(resp.StatusCode):
		e.means = r.Unanswered
	}
	if e.throttled && !e.redirected && e.wait <= longestPause {
		r.Registry.pause.extend(time.Now().Add(e.wait))
	}
	// A signed URL may have expired. It may also be signed for GET only, which a HEAD
	// cannot find out, so a HEAD is not repeated.
	expired := e.redirected && resp.StatusCode == http.StatusForbidden && r.Method != http.MethodHead
	e.final = !e.throttled && !expired && !Temporary(resp.StatusCode)
	e.spent(r)
	return e
}

// deniesQuestion reports whether a status refuses a HEAD or GET without saying whether
// the content exists: a 4xx other than 401, which is about credentials, 404, which is an
// answer, and those that may change in a moment; also 501 and 505.
func deniesQuestion(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusNotFound:
		return false
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	}
	return status >= 400 && status < 500 && !Temporary(status)
}

// NoEffect returns the Error for a 2xx that lacks what the specification requires, if the
// content was not stored. A login page or a proxy answers so.
func (r *Request) NoEffect(resp *http.Response) *Error {
	e := r.Answer(resp.StatusCode, errors.New("the answer does not come from a registry; nothing was stored"))
	e.hint = "check for a proxy or a login page in front of " + r.Registry.address
	return e
}

// redirected reports whether resp came from another host than the registry.
func (r *Request) redirected(resp *http.Response) bool {
	from := resp.Request.URL
	return !r.is(toTokenService) && !sameOrigin(from, r.Registry.base(from.Scheme))
}

// limited reports whether a 403 means a rate limit, as at GitHub.
func limited(h http.Header, body []byte) bool {
	return h.Get("Retry-After") != "" || h.Get("X-Ratelimit-Remaining") == "0" ||
		strings.Contains(strings.ToLower(string(body)), "rate limit")
}

// parseErrors reads the body of an error (distribution-spec, "Error Codes") and returns
// its codes, at most four, and its first message, cleaned. A body in another form has
// neither.
func parseErrors(body []byte) (codes []string, text string) {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &doc) != nil || len(doc.Errors) == 0 {
		return nil, ""
	}
	for _, one := range doc.Errors {
		code := Clean(one.Code)
		if len(code) <= 64 && code != "" && !slices.Contains(codes, code) && len(codes) < 4 {
			codes = append(codes, code)
		}
	}
	return codes, Clean(doc.Errors[0].Message)
}
