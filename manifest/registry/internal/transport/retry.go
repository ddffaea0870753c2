package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The bounds of retries. They apply to one request, except longestRun.
const (
	maxTries      = 6
	maxTriesBrief = 3 // connection refused or unknown host
	firstWait     = 500 * time.Millisecond
	longestWait   = 30 * time.Second
	longestPause  = 120 * time.Second // if a registry asks for a longer one, the request fails at once
	longestRun    = 10 * time.Minute  // all waits for one host in a run; waits that overlap count once
	unsaid        = -1 * time.Second  // the value of a wait that the registry did not state
)

// Temporary reports whether a status may be different in a moment. 499 is what some
// proxies answer if a connection behind them was cut.
func Temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

// A Retries counts the tries of one piece of work, such as a request or an upload. It is
// not safe for concurrent use. All decisions about retries of requests are in its method
// Again.
type Retries struct {
	t     *Transport
	host  *Registry
	tries int // failed ones since the last progress
}

// Retries returns a new count for work at h.
func (t *Transport) Retries(h *Registry) *Retries { return &Retries{t: t, host: h} }

// Progressed begins the count again. An upload or download calls it after it has moved
// bytes, so that it can be cut any number of times.
func (r *Retries) Progressed() { r.tries = 0 }

// Again decides whether the work that failed with err is tried again. It waits until the
// next try is due and returns nil; otherwise it returns the error to end with. err may be
// shared with other callers, so the returned error is a copy.
//
// It gives up if the error is final, the tries or the budget of the host are used up, or
// the registry asks for a longer wait than longestPause. A wait that the registry asked
// for, or that follows a rate limit, becomes the pause of the host, so that other
// requests wait too.
func (r *Retries) Again(ctx context.Context, err error) error {
	shared := As(err)
	if shared == nil || ctx.Err() != nil {
		return err
	}
	r.tries++
	e := *shared
	e.Attempts = max(r.tries, e.Attempts)
	limit := maxTries
	if e.brief {
		limit = r.host.briefly()
	}
	if e.final || r.tries >= limit {
		if e.brief && !e.final {
			r.host.setReachable(false)
		}
		e.final = true
		return &e
	}
	d := r.delay(&e)
	now := time.Now()
	switch {
	case d > longestPause:
		if !e.redirected {
			r.host.pause.extend(now.Add(d)) // other requests must not be sent either
		}
		e.putOff(now.Add(d))
		return &e
	case !r.host.budget.spend(now, d):
		e.final = true
		e.hint = fmt.Sprintf("the run has already waited %v for this registry; try again later", longestRun)
		return &e
	case e.throttled || e.wait >= 0:
		r.host.pause.extend(now.Add(d))
	}
	if r.t.Sleep(ctx, d) != nil {
		return &Error{
			Op: e.Op, Host: e.Host, Repository: e.Repository, Reference: e.Reference,
			Attempts: e.Attempts, Err: stopped(ctx), final: true, wait: unsaid,
		}
	}
	return nil
}

// briefly returns how often an unreachable host is tried. After one request has used up
// its tries, the others fail at once: a mirror of a thousand images would otherwise wait
// a thousand times. Any answer of the host ends that.
func (h *Registry) briefly() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.absent {
		return 1
	}
	return maxTriesBrief
}

// setReachable records whether the host answers.
func (h *Registry) setReachable(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.absent = !yes
}

// delay returns how long to wait after e: doubling from firstWait to longestWait, with a
// jitter of a quarter, but at least as long as the registry asked for.
func (r *Retries) delay(e *Error) time.Duration {
	d := min(firstWait<<(r.tries-1), longestWait)
	d = d*3/4 + rand.N(d/2) //nolint:gosec // jitter need not be secret
	return max(d, e.wait)
}

// parseRetryAfter reads Retry-After (RFC 9110, 10.2.3): seconds or a date. It returns
// unsaid for anything else, 0 for a date in the past, and at most a year.
func parseRetryAfter(value string, now time.Time) time.Duration {
	const most = 365 * 24 * time.Hour
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(most/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return most
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return unsaid
	}
	return min(max(at.Sub(now), 0), most)
}

// A pause delays the requests to a host: none begins before until, and then at most one
// in each period of every. It is safe for concurrent use.
type pause struct {
	mu    sync.Mutex
	until time.Time
	every time.Duration // the time between the beginnings of two requests; 0: no bound
	next  time.Time     // when the next request may begin, if every is not 0
}

// extend makes the pause last at least until then. It never shortens it.
func (p *pause) extend(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until.After(p.until) {
		p.until = until
	}
}

// left returns the end of the pause and how long it still lasts.
func (p *pause) left() (until time.Time, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until, time.Until(p.until)
}

// turn reserves the next time to begin a request and returns how long it is until then.
// After a rest of at least one period two requests may begin at once.
func (p *pause) turn(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every == 0 {
		return 0
	}
	if rested := now.Add(-p.every); p.next.Before(rested) {
		p.next = rested
	}
	d := p.next.Sub(now)
	p.next = p.next.Add(p.every)
	return d
}

// A closedError says that a host asked for a longer pause than the client waits. The
// request was not sent.
type closedError struct{ until time.Time }

func (closedError) Error() string { return "not contacted, because the registry asked to wait" }

// putOff makes e final and sets the time when another try makes sense.
func (e *Error) putOff(until time.Time) {
	e.final, e.until = true, until
	e.hint = "the registry asks to wait until " + until.UTC().Format(time.RFC3339)
}

// acquire waits for the end of the pause, for its turn and for a permit of g. It holds no
// permit while it sleeps.
//
// The three waits are repeated until none is left, because a pause may begin while the
// caller waits for the permit. After a pause the caller takes a new turn: all callers
// that slept through it would otherwise begin at once.
func (p *pause) acquire(ctx context.Context, sleep func(context.Context, time.Duration) error, g Semaphore) (leave func(), err error) {
	for mine := false; ; {
		until, d := p.left()
		if d > longestPause {
			return nil, closedError{until}
		}
		if d > 0 {
			if sleep(ctx, d) != nil {
				return nil, stopped(ctx)
			}
			p.over(until)
			mine = false
			continue
		}
		if !mine {
			if mine, d = true, p.turn(time.Now()); d > 0 {
				if sleep(ctx, d) != nil {
					return nil, stopped(ctx)
				}
				continue
			}
		}
		if leave, err = g.Acquire(ctx); err != nil {
			return nil, err
		}
		if _, d := p.left(); d <= 0 {
			return leave, nil
		}
		leave()
	}
}

// over ends the pause that was slept through, unless it was extended meanwhile. Sleep may
// be a test's function that returns at once, and the clock would then still be before
// until.
func (p *pause) over(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.Equal(until) {
		p.until = time.Time{}
	}
}
