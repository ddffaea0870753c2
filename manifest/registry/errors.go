package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest"
)

// ErrCredentials is in the chain of every error that means missing, wrong or insufficient
// credentials: a 401, a 403 that is not a rate limit, a credential helper that fails, a
// token service that may not have the credentials.
var ErrCredentials = hint.New(hint.Credentials, "", "credentials refused")

// An Error is the failure of one request to a registry. errors.Is finds [ErrCredentials],
// [manifest.ErrNotFound] (a manifest to be read does not exist), [manifest.ErrUnanswered]
// (the registry refuses to say what a reference names) and what is in Err. All text in it
// is safe to print. An Error may be shared by several callers, so it is copied before it
// is changed.
type Error struct {
	Op         string   // the method: HEAD, GET, PUT, …
	Host       string   // the registry, as in a reference
	Repository string   // without the host; may be empty
	Reference  string   // a tag or a digest; may be empty
	Status     int      // 0 when there was no answer
	Codes      []string // the registry's error codes, cleaned
	Attempts   int      // how many times the request was sent
	Err        error    // the cause, or the registry's message, cleaned; may be nil

	// Setting is the field of [Client] or [Host] that, set for SettingHost, would have
	// let the request succeed or be sent; may be empty.
	Setting, SettingHost string

	hint       string        // what to do; "" lets Hint find one
	immutable  bool          // the registry does not allow the tag to move
	missing    bool          // the requested manifest does not exist
	unanswered bool          // a GET or HEAD was refused: the content may exist or not
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
		b.WriteString(" " + clean(e.Err.Error()))
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
	case manifest.ErrNotFound:
		return e.missing
	case manifest.ErrUnanswered:
		return e.unanswered
	case hint.Registry:
		return true
	case ErrCredentials, hint.Credentials:
		return e.refused()
	}
	return false
}

// refused reports whether credentials are the cause. An answer of a host that the
// registry redirected to does not count: a storage service answers 403 for an expired
// URL.
func (e *Error) refused() bool {
	if e.redirected || e.immutable {
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
	inner := asError(e.Err)
	if e.Setting != "" || e.hint != "" || inner == nil {
		return e.Setting
	}
	return inner.setting()
}

// RetryAt returns when another try makes sense, if that is known: the registry asked to
// wait for longer than a run waits, or a quota is used up. If a request could not be sent
// because its body could not be read, the time is that of the body's error.
func (e *Error) RetryAt() (time.Time, bool) {
	if inner := asError(e.Err); e.until.IsZero() && inner != nil {
		return inner.RetryAt()
	}
	return e.until, !e.until.IsZero()
}

// InvalidManifest reports whether the registry refuses a manifest because of its content:
// 400 with the code MANIFEST_INVALID (distribution-spec, "Error Codes"). Old registries
// answer so for media types that they do not support.
func (e *Error) InvalidManifest() bool {
	return e.Op == http.MethodPut && e.Status == http.StatusBadRequest && e.has("MANIFEST_INVALID") && !e.immutable
}

// has reports whether the registry sent one of the codes.
func (e *Error) has(codes ...string) bool {
	return slices.ContainsFunc(e.Codes, func(c string) bool { return slices.Contains(codes, c) })
}

// asError returns the *Error in err's chain, or nil.
func asError(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	return e
}

// statusOf returns the HTTP status in err, or 0 if there was no answer.
func statusOf(err error) int {
	if e := asError(err); e != nil {
		return e.Status
	}
	return 0
}

// isThrottled reports whether err means that the registry limits the rate of requests.
func isThrottled(err error) bool {
	e := asError(err)
	return e != nil && e.throttled
}

// fault returns an Error for a request, with the given cause.
func (k *request) fault(err error) *Error {
	return &Error{Op: k.method, Host: k.host.name, Repository: k.repo, Reference: k.ref, Attempts: 1, Err: err, wait: unsaid}
}

// refusal returns the Error for an answer with an unexpected status. It reads and closes
// the body. It also records a pause that the registry asks for, so that other requests to
// the host wait, even if the caller does not repeat this one.
//
// A 403 of another host than the registry may mean that a signed URL has expired. Another
// try gets a new URL from the registry, so it is not final.
func (k *request) refusal(resp *http.Response) *Error {
	e := k.fault(nil)
	e.Status = resp.StatusCode
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // a part is enough
	discard(resp)
	var text string
	e.Codes, text = parseErrors(body)
	if text != "" {
		e.Err = errors.New(text)
	}
	asks := k.method == http.MethodGet || k.method == http.MethodHead
	e.missing = (k.kind == kindManifest || k.kind == kindListing) && resp.StatusCode == http.StatusNotFound && asks
	e.throttled = resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusForbidden && limited(resp.Header, body)
	if e.wait = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()); e.throttled && e.wait == unsaid {
		e.wait = parseReset(resp.Header, time.Now())
	}
	e.redirected = k.redirected(resp)
	e.unanswered = asks && k.kind != kindToken && !e.throttled && deniesQuestion(resp.StatusCode)
	if e.throttled && !e.redirected && e.wait <= longestPause {
		k.host.pause.extend(time.Now().Add(e.wait))
	}
	// A signed URL may have expired. It may also be signed for GET only, which a HEAD
	// cannot find out, so a HEAD is not repeated.
	expired := e.redirected && resp.StatusCode == http.StatusForbidden && k.method != http.MethodHead
	e.final = !e.throttled && !expired && !temporary(resp.StatusCode)
	e.spent(k)
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
	return status >= 400 && status < 500 && !temporary(status)
}

// noEffect returns the Error for a 2xx that lacks what the specification requires, if the
// content was not stored. A login page or a proxy answers so.
func (k *request) noEffect(resp *http.Response) *Error {
	e := k.fault(errors.New("the answer does not come from a registry; nothing was stored"))
	e.Status, e.final = resp.StatusCode, true
	e.hint = "check for a proxy or a login page in front of " + k.host.address
	return e
}

// redirected reports whether resp came from another host than the registry.
func (k *request) redirected(resp *http.Response) bool {
	from := resp.Request.URL
	return k.kind != kindToken && !sameOrigin(from, k.host.base(from.Scheme))
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
		code := clean(one.Code)
		if len(code) <= 64 && code != "" && !slices.Contains(codes, code) && len(codes) < 4 {
			codes = append(codes, code)
		}
	}
	return codes, clean(doc.Errors[0].Message)
}
