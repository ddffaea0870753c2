package registry

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

// How often and how long a request is tried.
const (
	maxTries      = 6
	maxTriesBrief = 3 // nobody listens, no such host
	firstWait     = 500 * time.Millisecond
	longestWait   = 30 * time.Second
	longestPause  = 120 * time.Second // a registry that asks for more is given up at once
	longestRun    = 10 * time.Minute  // of waiting for one host in a run
	unsaid        = -1 * time.Second  // no Retry-After
)

// temporary reports whether a status may be another one in a moment.
func temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

// retries counts the tries of one piece of work.
type retries struct {
	w     *transport
	host  *host
	tries int
}

func (w *transport) retries(h *host) *retries { return &retries{w: w, host: h} }

// again returns nil when the work that ended in err is worth another try, after
// waiting until it is time for that; otherwise the error to end with. err itself
// may be shared with others and is left as it is.
func (r *retries) again(ctx context.Context, err error) error {
	shared := asError(err)
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
			r.host.pause.extend(now.Add(d)) // for the others, who are not to ask either
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
	if r.w.sleep(ctx, d) != nil {
		return &Error{
			Op: e.Op, Host: e.Host, Repository: e.Repository, Reference: e.Reference,
			Attempts: e.Attempts, Err: stopped(ctx), final: true, wait: unsaid,
		}
	}
	return nil
}

// briefly is how often a host is tried where nobody is: of a thousand images that go
// there one waits for it, and the others believe that one.
func (h *host) briefly() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.absent {
		return 1
	}
	return maxTriesBrief
}

// setReachable remembers whether somebody is there.
func (h *host) setReachable(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.absent = !yes
}

// delay returns how long to wait after e: as told, never less, or doubling.
func (r *retries) delay(e *Error) time.Duration {
	d := min(firstWait<<(r.tries-1), longestWait)
	d = d*3/4 + rand.N(d/2) //nolint:gosec // jitter keeps no secret
	return max(d, e.wait)
}

// parseRetryAfter reads Retry-After (RFC 9110, 10.2.3): seconds or a date. It
// returns unsaid for what is neither, or negative, and at most a year.
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

// A pause is what a host asked for: nobody sends before it is over, and then at the
// pace that was set.
type pause struct {
	mu    sync.Mutex
	until time.Time
	every time.Duration // from one request to the next; 0: at once
	next  time.Time     // when the next request may begin
}

// extend makes everybody wait until then, at least.
func (p *pause) extend(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until.After(p.until) {
		p.until = until
	}
}

// left returns how long the pause still lasts.
func (p *pause) left() (until time.Time, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until, time.Until(p.until)
}

// turn takes the next turn to begin a request, and returns how long it is until
// then. Two that come after a time of rest begin at once.
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

// closedError says that a host wants to be left alone for longer than we wait.
type closedError struct{ until time.Time }

func (closedError) Error() string { return "not contacted, because the registry asked to wait" }

// putOff ends e with the time when it makes sense to come again.
func (e *Error) putOff(until time.Time) {
	e.final, e.until = true, until
	e.hint = "the registry asks to wait until " + until.UTC().Format(time.RFC3339)
}

// acquire waits for the pause to be over, for its turn and for a permit of g, and
// holds none while it waits for another.
func (p *pause) acquire(ctx context.Context, sleep func(context.Context, time.Duration) error, g semaphore) (leave func(), err error) {
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
			mine = false // or all that waited would begin at once
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
		if leave, err = g.acquire(ctx); err != nil {
			return nil, err
		}
		if _, d := p.left(); d <= 0 {
			return leave, nil
		}
		leave()
	}
}

// over ends the pause that was slept through.
func (p *pause) over(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.Equal(until) {
		p.until = time.Time{}
	}
}
