package transport

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Quota is the number of manifests that a registry allows to be read in a window of
// time. Docker Hub sends it with each answer about a manifest. HEAD requests have it too,
// but do not count.
type Quota struct {
	Limit     int           // in one window
	Remaining int           // the registry's last number, less the requests since
	Window    time.Duration // the time after which the quota is full again
}

// Quotas returns the known quotas by the names of the registries.
func (t *Transport) Quotas() map[string]Quota {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]Quota{}
	for name, h := range t.registries {
		if q, _, ok := h.quotaBudget.left(); ok {
			all[name] = q
		}
	}
	return all
}

// A quotaBudget counts the pulls from one host. Several requests are in flight at once,
// so the number in an answer may or may not include the others. The budget assumes the
// worse case, so that the reserve is not used by mistake.
type quotaBudget struct {
	mu    sync.Mutex
	quota Quota
	until time.Time // when the quota is full again; zero if none is known
	begun int       // pulls that were begun
	reads int       // pulls that were answered or failed
}

// left returns the quota, when it is full again, and whether there is one.
func (a *quotaBudget) left() (Quota, time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.quota, a.until, time.Now().Before(a.until)
}

// reserve begins a request. A pull is counted, and refused (ok is false) if it would use
// the reserve; a reserve of 0 refuses nothing. The caller calls answered once, with the
// answer or with nil if there was none.
func (a *quotaBudget) reserve(pulls bool, reserve int) (answered func(*http.Response), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.reads
	if !pulls {
		return func(resp *http.Response) { a.answered(resp, before, 0) }, true
	}
	if reserve > 0 && time.Now().Before(a.until) && a.quota.Remaining <= reserve {
		return nil, false
	}
	a.begun++
	a.quota.Remaining = max(0, a.quota.Remaining-1)
	return func(resp *http.Response) { a.answered(resp, before, 1) }, true
}

// answered records the answer to a request. pulls is 1 for a pull, else 0. before is the
// number of pulls that were finished when the request began. The registry's number
// includes those for certain. All other pulls, in flight then or begun later, are
// subtracted, since the number may not include them.
func (a *quotaBudget) answered(resp *http.Response, before, pulls int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads += pulls
	if resp == nil {
		return
	}
	q, ok := parseQuota(resp.Header)
	switch {
	case ok:
		q.Remaining = max(0, q.Remaining-(a.begun-before-pulls))
		a.quota, a.until = q, time.Now().Add(q.Window)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests: // nothing was read
		a.quota.Remaining += pulls
	}
}

// parseQuota reads RateLimit-Limit and RateLimit-Remaining in Docker Hub's form,
// "100;w=21600". Without a window they are another limit, usually of requests per minute.
func parseQuota(h http.Header) (Quota, bool) {
	limit, window, ok := parseWindowed(h.Get("RateLimit-Limit"))
	remaining, other, also := parseWindowed(h.Get("RateLimit-Remaining"))
	if !ok || !also || window != other || remaining > limit {
		return Quota{}, false
	}
	return Quota{Limit: limit, Remaining: remaining, Window: window}, true
}

// parseWindowed reads "count;w=seconds". A window is at most a year.
func parseWindowed(value string) (n int, window time.Duration, ok bool) {
	const most = 365 * 24 * 60 * 60
	number, text, ok := strings.Cut(strings.ReplaceAll(value, " ", ""), ";w=")
	count, err := strconv.ParseUint(number, 10, 31)
	seconds, err2 := strconv.ParseUint(text, 10, 63)
	if !ok || err != nil || err2 != nil || seconds < 1 || seconds > most {
		return 0, 0, false
	}
	return int(count), time.Duration(seconds) * time.Second, true
}

// parseReset returns how long the host must not be asked, if an answer says that no
// requests are left: RateLimit-Remaining or X-RateLimit-Remaining is 0, with a reset in
// seconds or as Unix time. Everything else is unsaid. That includes a quota of pulls:
// HEAD requests are still allowed.
func parseReset(h http.Header, now time.Time) time.Duration {
	for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
		if strings.TrimSpace(h.Get(prefix+"Remaining")) != "0" {
			continue
		}
		text := strings.TrimSpace(h.Get(prefix + "Reset"))
		const epoch = 1_000_000_000 // larger numbers are a Unix time, smaller ones a wait
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil || n < 0:
			continue
		case n >= epoch && n < 1<<40:
			return max(0, time.Unix(n, 0).Sub(now))
		case n < epoch:
			return parseRetryAfter(text, now)
		}
	}
	return unsaid
}

// heed records the pause that an answer announces, so that the next request waits before
// the registry refuses it. A pause that is longer than a run waits is ignored here.
func (h *Registry) heed(resp *http.Response) {
	now := time.Now()
	if d := parseReset(resp.Header, now); d > 0 && d <= longestPause {
		h.pause.extend(now.Add(d))
	}
}

// reserved is the Error of a pull that is not sent because of the reserve.
func (r *Request) reserved(reserve int) *Error {
	q, until, _ := r.Registry.quotaBudget.left()
	e := r.Fault(fmt.Errorf("not requested: %d of %d pulls are left, and %d are reserved", q.Remaining, q.Limit, reserve))
	e.throttled, e.final, e.until = true, true, until
	e.Setting, e.SettingHost = "QuotaReserve", r.Registry.Name
	return e
}

// spent makes the error of a pull final if the quota is used up: a retry within the run
// would fail too. An answer with Retry-After is left to the retries.
func (e *Error) spent(r *Request) {
	q, until, ok := r.Registry.quotaBudget.left()
	if !r.pulls() || !ok || q.Remaining > 0 || !e.throttled || e.wait >= 0 {
		return
	}
	e.final, e.until = true, until
	e.hint = fmt.Sprintf("the quota of %d pulls per %v is used up; wait until %s, or use an account with a larger quota",
		q.Limit, q.Window, until.UTC().Format(time.RFC3339))
}
