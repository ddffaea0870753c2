package registry

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Quota is how many manifests a registry lets be read in a window of time, as
// Docker Hub says it with each answer about a manifest, those to HEADs included,
// which do not count.
type Quota struct {
	Limit     int           // in the window
	Remaining int           // what was said last, less what was read since
	Window    time.Duration // as long as it takes until all of it is there again
}

// Quota returns what is known of a registry's quota, by its name as in a reference.
// Nothing is asked for it: false means that no answer has told any in this run, or
// that the window is over since.
func (c *Client) Quota(host string) (Quota, bool) {
	q, ok := c.Quotas()[canonical(host)]
	return q, ok
}

// Quotas returns the quotas that are known, by the names of the registries.
func (c *Client) Quotas() map[string]Quota {
	c.start()
	c.transport.mu.Lock()
	defer c.transport.mu.Unlock()
	all := map[string]Quota{}
	for name, h := range c.transport.hosts {
		if q, _, ok := h.quotaBudget.left(); ok {
			all[name] = q
		}
	}
	return all
}

// A quotaBudget is a host's quota on its way down.
type quotaBudget struct {
	mu    sync.Mutex
	quota Quota
	until time.Time // the quota is whole again; zero when none is known
	begun int       // readings of manifests
	reads int       // of them
}

// left returns the quota and when it is whole again.
func (a *quotaBudget) left() (Quota, time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.quota, a.until, time.Now().Before(a.until)
}

// reserve begins a request. One that pulls is counted, unless that would touch the
// reserve; 0 reserves nothing, not even what is not there. settle, called once,
// takes in the answer, or nil for none.
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

// answered takes in the answer to a request that counts as pulls, and before which so
// many others were settled: of those the registry knew for sure when it answered, of
// later ones it may not.
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

// parseQuota reads ratelimit-limit and ratelimit-remaining, each as "100;w=21600".
// Without a window they are about something else: requests a minute.
func parseQuota(h http.Header) (Quota, bool) {
	limit, window, ok := parseWindowed(h.Get("RateLimit-Limit"))
	remaining, other, also := parseWindowed(h.Get("RateLimit-Remaining"))
	if !ok || !also || window != other || remaining > limit {
		return Quota{}, false
	}
	return Quota{Limit: limit, Remaining: remaining, Window: window}, true
}

func parseWindowed(value string) (n int, window time.Duration, ok bool) {
	const most = 365 * 24 * 60 * 60
	number, text, ok := strings.Cut(strings.ReplaceAll(value, " ", ""), ";w=")
	count, err := parseDigits(number)
	seconds, err2 := parseDigits(text)
	if !ok || err != nil || err2 != nil || count > 1<<31-1 || seconds < 1 || seconds > most {
		return 0, 0, false
	}
	return int(count), time.Duration(seconds) * time.Second, true
}

// parseReset returns how long nothing more may be asked, as an answer says it that
// leaves no requests: ratelimit-remaining or x-ratelimit-remaining 0, with a reset
// in seconds or as the time it is then. It returns unsaid for anything else, a quota
// included: HEADs go on.
func parseReset(h http.Header, now time.Time) time.Duration {
	for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
		if strings.TrimSpace(h.Get(prefix+"Remaining")) != "0" {
			continue
		}
		text := strings.TrimSpace(h.Get(prefix + "Reset"))
		const epoch = 1_000_000_000 // no wait is that long, and no clock that slow
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

// heed takes in what an answer says of how much may still be asked, and when.
func (h *host) heed(resp *http.Response) {
	now := time.Now()
	if d := parseReset(resp.Header, now); d > 0 && d <= longestPause {
		h.pause.extend(now.Add(d))
	}
}

// reserved is the error of a manifest that is not read, since too few would be left
// for others.
func (k *request) reserved(reserve int) *Error {
	q, until, _ := k.host.quotaBudget.left()
	e := k.fault(fmt.Errorf("not requested: %d of %d pulls are left, and %d are reserved", q.Remaining, q.Limit, reserve))
	e.throttled, e.final, e.until = true, true, until
	e.Setting, e.SettingHost = "QuotaReserve", k.host.name
	return e
}

// spent completes the error of a manifest whose quota is used up: another try in a
// moment is useless.
func (e *Error) spent(k *request) {
	q, until, ok := k.host.quotaBudget.left()
	if !k.pulls || !ok || q.Remaining > 0 || !e.throttled || e.wait >= 0 {
		return
	}
	e.final, e.until = true, until
	e.hint = fmt.Sprintf("the quota of %d pulls per %v is used up; wait until %s, or use an account with a larger quota",
		q.Limit, q.Window, until.UTC().Format(time.RFC3339))
}
