package registry

import (
	"cmp"
	"sync"
	"time"
)

// Manners are how registries are treated: how much is asked of each at once and in
// a second, the pauses that it wanted, what it said of its quota. Clients that
// follow each other or work side by side may have them in common; the limits are
// those of the first that asks a host. The zero value is ready to use.
type Manners struct {
	mu    sync.Mutex
	hosts map[string]*treatment
}

// A treatment is that of one host.
type treatment struct {
	requests gate // all but the reading of blobs
	contents gate // the reading of blobs, which an upload may wait for
	tokens   gate // the host's token server, which any request may wait for

	pause     pause
	allowance allowance
}

// of returns the treatment of h.
func (m *Manners) of(h *host, perHost int) *treatment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.hosts[h.name]; ok {
		return t
	}
	most := cmp.Or(h.MaxRequests, perHost)
	t := &treatment{requests: newGate(most), contents: newGate(most), tokens: newGate(most)}
	if h.PerSecond > 0 {
		t.pause.every = time.Duration(min(float64(time.Second)/h.PerSecond, float64(time.Hour)))
	}
	if m.hosts == nil {
		m.hosts = map[string]*treatment{}
	}
	m.hosts[h.name] = t
	return t
}

// Forget forgets a host, so that its limits are those of the next that asks it. What
// is under way goes on under the old ones.
func (m *Manners) Forget(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.hosts, canonical(host))
}

// A budget is how long a run may wait for one host.
type budget struct {
	mu     sync.Mutex
	spent  time.Duration // of waiting, however many wait at once
	booked time.Time     // the end of the last waiting that was counted
}

// spend counts a wait of d that begins now, and reports whether the run may
// afford it.
func (b *budget) spend(now time.Time, d time.Duration) bool {
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
