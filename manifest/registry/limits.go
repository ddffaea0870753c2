package registry

import (
	"cmp"
	"sync"
	"time"
)

// Limits are how registries are treated: how much is asked of each at once and in
// a second, the pauses that it wanted, what it said of its quota. Clients that
// follow each other or work side by side may have them in common; the limits are
// those of the first that asks a host. The zero value is ready to use.
type Limits struct {
	mu    sync.Mutex
	hosts map[string]*hostLimits
}

// A hostLimits is that of one host.
type hostLimits struct {
	requests semaphore // all but the reading of blobs
	contents semaphore // the reading of blobs, which an upload may wait for
	tokens   semaphore // the host's token server, which any request may wait for

	pause       pause
	quotaBudget quotaBudget
}

// of returns the limits of h.
func (m *Limits) of(h *host, perHost int) *hostLimits {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.hosts[h.name]; ok {
		return t
	}
	most := cmp.Or(h.MaxRequests, perHost)
	t := &hostLimits{requests: newSemaphore(most), contents: newSemaphore(most), tokens: newSemaphore(most)}
	if h.PerSecond > 0 {
		t.pause.every = time.Duration(min(float64(time.Second)/h.PerSecond, float64(time.Hour)))
	}
	if m.hosts == nil {
		m.hosts = map[string]*hostLimits{}
	}
	m.hosts[h.name] = t
	return t
}

// Forget forgets a host, so that its limits are those of the next that asks it. What
// is under way goes on under the old ones.
func (m *Limits) Forget(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.hosts, canonical(host))
}

// A waitBudget is how long a run may wait for one host.
type waitBudget struct {
	mu     sync.Mutex
	spent  time.Duration // of waiting, however many wait at once
	booked time.Time     // the end of the last waiting that was counted
}

// spend counts a wait of d that begins now, and reports whether the run may
// afford it.
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
