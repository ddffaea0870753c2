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

// ErrCredentials is in the chain of every error that means missing, wrong or
// insufficient credentials: 401, a 403 that is no rate limit, a credential
// helper that fails, a token server that may not have the credentials.
var ErrCredentials = hint.New(hint.Credentials, "", "credentials refused")

// An Error says which request ended how. errors.Is finds [ErrCredentials],
// [manifest.ErrNotFound] (a manifest that was to be read and is not there),
// [manifest.ErrUnanswered] (the question what a reference names was refused) and what
// is in Err.
type Error struct {
	Op         string   // the method: HEAD, GET, PUT, …
	Host       string   // the registry, as in a reference
	Repository string   // without the host; may be empty
	Reference  string   // a tag or a digest; may be empty
	Status     int      // 0 when there was no answer
	Codes      []string // the registry's error codes, cleaned
	Attempts   int      // how many times it was tried
	Err        error    // the cause, or the registry's own words, cleaned

	// Setting is the field of [Client] or [Host] that, set for SettingHost, would have
	// let the request succeed or be sent; may be empty.
	Setting, SettingHost string

	hint       string
	immutable  bool          // the tag names something else and may not be moved
	missing    bool          // a manifest that was asked for is not there
	unanswered bool          // the question for a manifest or a blob was refused: it may be there or not
	throttled  bool          // too many requests, whatever the status
	credential bool          // credentials were the cause without a 401 or 403
	redirected bool          // a host that the registry redirected to has answered
	renewed    bool          // there are new credentials to try with
	final      bool          // trying again is useless, or was done
	brief      bool          // nobody is there: few tries, short waits
	wait       time.Duration // what Retry-After said; negative when it said nothing
	until      time.Time     // when to come back; zero when that is not known
}

// Error returns one line that is fit for a terminal, whatever the registry said.
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

// Is finds the sentinels that an answer stands for.
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

func (e *Error) refused() bool {
	if e.redirected || e.immutable {
		return false
	}
	return e.credential || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden && !e.throttled
}

// Hint returns the way out, or "".
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

// RetryAt returns when it makes sense to come back, if the registry said so: it
// asked to wait longer than a run waits, or a quota is used up. What could not be
// sent because it could not be read says when it can be.
func (e *Error) RetryAt() (time.Time, bool) {
	if inner := asError(e.Err); e.until.IsZero() && inner != nil {
		return inner.RetryAt()
	}
	return e.until, !e.until.IsZero()
}

// InvalidManifest reports whether the registry refuses to store a manifest for what it is:
// 400 with the code MANIFEST_INVALID (distribution-spec, "Error codes"). Old registries
// say so of media types that they do not know.
func (e *Error) InvalidManifest() bool {
	return e.Op == http.MethodPut && e.Status == http.StatusBadRequest && e.has("MANIFEST_INVALID") && !e.immutable
}

// has reports whether the registry gave one of the codes.
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

// statusOf returns the status of the answer that err is about, or 0.
func statusOf(err error) int {
	if e := asError(err); e != nil {
		return e.Status
	}
	return 0
}

// isThrottled reports whether err means that less is to be asked for, not that
// anything is wrong.
func isThrottled(err error) bool {
	e := asError(err)
	return e != nil && e.throttled
}

// fault begins the error of a request.
func (k *request) fault(err error) *Error {
	return &Error{Op: k.method, Host: k.host.name, Repository: k.repo, Reference: k.ref, Attempts: 1, Err: err, wait: unsaid}
}

// refusal makes the error of an answer that is none of those wanted, and reads
// and closes its body.
func (k *request) refusal(resp *http.Response) *Error {
	e := k.fault(nil)
	e.Status = resp.StatusCode
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what came is as much as there is to say
	discard(resp)
	var text string
	e.Codes, text = parseErrors(body)
	if text != "" {
		e.Err = errors.New(text)
	}
	asks := k.method == http.MethodGet || k.method == http.MethodHead
	e.missing = k.manifest && resp.StatusCode == http.StatusNotFound && asks
	e.throttled = resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusForbidden && limited(resp.Header, body)
	if e.wait = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()); e.throttled && e.wait == unsaid {
		e.wait = parseReset(resp.Header, time.Now())
	}
	e.redirected = k.redirected(resp)
	e.unanswered = asks && !k.token && !e.throttled && deniesQuestion(resp.StatusCode)
	if e.throttled && !e.redirected && e.wait <= longestPause { // also where nobody tries again
		k.host.pause.extend(time.Now().Add(e.wait))
	}
	// A signed URL may have expired. It may also be signed for GET alone, which a HEAD does not find out.
	expired := e.redirected && resp.StatusCode == http.StatusForbidden && k.method != http.MethodHead
	e.final = !e.throttled && !expired && !temporary(resp.StatusCode)
	e.spent(k)
	return e
}

// deniesQuestion reports whether a status refuses a HEAD or a GET and says nothing of
// what is there: any 4xx but 401, which is about credentials, 404, which is an answer,
// and those that may be another one in a moment; and 501 and 505.
func deniesQuestion(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusNotFound:
		return false
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	}
	return status >= 400 && status < 500 && !temporary(status)
}

// noEffect makes the error of an answer that says yes in a way that no registry does,
// when what was sent is not there.
func (k *request) noEffect(resp *http.Response) *Error {
	e := k.fault(errors.New("the answer does not come from a registry; nothing was stored"))
	e.Status, e.final = resp.StatusCode, true
	e.hint = "check for a proxy or a login page in front of " + k.host.address
	return e
}

// redirected reports whether resp came from a host that the request was redirected to.
func (k *request) redirected(resp *http.Response) bool {
	from := resp.Request.URL
	return !k.token && !sameOrigin(from, k.host.base(from.Scheme))
}

// limited reports whether a 403 means too many requests, as GitHub's does.
func limited(h http.Header, body []byte) bool {
	return h.Get("Retry-After") != "" || h.Get("X-Ratelimit-Remaining") == "0" ||
		strings.Contains(strings.ToLower(string(body)), "rate limit")
}

// parseErrors reads the body of an error (distribution-spec, "Error codes") and
// returns its codes and its first message, both cleaned.
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
