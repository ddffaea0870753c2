package transport

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// Limits hold how hosts are treated: the requests in flight and per second, the pauses
// that registries asked for, and their quotas. Several transports, one after another or at
// once, may share them; the settings are those of the first one that uses a host. The
// zero value is ready to use. Limits are safe for concurrent use.
type Limits struct {
	mu    sync.Mutex
	hosts map[string]*hostLimits
}

// A hostLimits has the limits of one host. The semaphores are separate so that a request
// that holds a permit of one may wait for another: an upload for the download that it
// streams, and any request for a token. A request that holds a permit of requests never
// waits for a second one, so there is no deadlock.
type hostLimits struct {
	requests Semaphore // all requests except those below
	contents Semaphore // downloads of blobs
	tokens   Semaphore // requests to the host's token service

	pause       pause
	quotaBudget quotaBudget
}

// of returns the limits of h and creates them at the first use.
func (m *Limits) of(h *Registry, perHost int) *hostLimits {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.hosts[h.Name]; ok {
		return t
	}
	most := cmp.Or(h.MaxRequests, perHost)
	t := &hostLimits{requests: NewSemaphore(most), contents: NewSemaphore(most), tokens: NewSemaphore(most)}
	if h.PerSecond > 0 {
		t.pause.every = time.Duration(min(float64(time.Second)/h.PerSecond, float64(time.Hour)))
	}
	if m.hosts == nil {
		m.hosts = map[string]*hostLimits{}
	}
	m.hosts[h.Name] = t
	return t
}

// Forget drops the limits of a host, so that the next transport that uses it sets new ones.
// Requests and transports that have the old limits keep them.
func (m *Limits) Forget(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.hosts, canonical(host))
}

// A waitBudget bounds how long a run waits for one host between tries.
type waitBudget struct {
	mu     sync.Mutex
	spent  time.Duration // time in which at least one request waited
	booked time.Time     // the end of the time that is counted in spent
}

// spend counts a wait of d that begins now, and reports whether the budget allows it.
// Waits that overlap count once, so that many parallel requests do not use up the budget
// of a run that is delayed once.
func (b *waitBudget) spend(now time.Time, d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := now.Add(d)
	if now.Before(b.booked) {
		now = b.booked
	}
	if end.After(now) {
		b.spent += end.Sub(now)
		b.booked = end
	}
	return b.spent <= longestRun
}

// A Semaphore bounds how much runs at once. It has as many permits as the capacity of the
// channel.
type Semaphore chan struct{}

// NewSemaphore returns a semaphore with size permits.
func NewSemaphore(size int) Semaphore { return make(Semaphore, size) }

// Acquire waits for a permit until ctx ends. leave gives the permit back and may be
// called more than once.
func (g Semaphore) Acquire(ctx context.Context) (leave func(), err error) {
	if ctx.Err() != nil {
		return nil, stopped(ctx)
	}
	select {
	case g <- struct{}{}:
		return sync.OnceFunc(func() { <-g }), nil
	case <-ctx.Done():
		return nil, stopped(ctx)
	}
}
