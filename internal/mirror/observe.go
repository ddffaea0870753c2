package mirror

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// LastReports joins the last report of each entry into one. It is safe for concurrent use.
type LastReports struct {
	Write func(*Report) error // of the joined report, after each Add; calls do not overlap

	mu   sync.Mutex
	last map[string]EntryReport
	all  []string // names in the order of their first report
}

// Add replaces the reports of the entries in r, and writes the joined report.
func (l *LastReports) Add(r *Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = map[string]EntryReport{}
	}
	for _, e := range r.Entries {
		if _, there := l.last[e.Name]; !there {
			l.all = append(l.all, e.Name)
		}
		l.last[e.Name] = e
	}
	return l.replace()
}

// Expect removes the reports of entries that the plan no longer has.
func (l *LastReports) Expect(entries []*Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(name string) bool {
		gone := !slices.ContainsFunc(entries, func(e *Entry) bool { return e.Name == name })
		if gone {
			delete(l.last, name)
		}
		return gone
	})
}

// replace writes the joined report, with the sums over all entries. mu is held.
func (l *LastReports) replace() error {
	var whole Report
	for _, name := range l.all {
		e := l.last[name]
		whole.Entries = append(whole.Entries, e)
		if whole.Started.IsZero() || e.Started.Before(whole.Started) {
			whole.Started = e.Started
		}
		whole.Seconds += e.Seconds
	}
	whole.Count()
	return l.Write(&whole)
}

// Metrics are the Prometheus metrics of a [Watcher]. They are safe for concurrent use.
type Metrics struct {
	Gatherer prometheus.Gatherer // of these metrics and no others

	images   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	failures *prometheus.CounterVec
	success  *prometheus.GaugeVec
	quota    *prometheus.GaugeVec
}

// NewMetrics registers the metrics in a separate registry, without those of the Go
// runtime.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "mabuild", Subsystem: "mirror", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "mabuild", Subsystem: "mirror", Name: name, Help: help}, labels)
	}
	own := prometheus.NewRegistry()
	m := &Metrics{
		Gatherer: own,
		images:   counter("images_total", "Images processed, by outcome.", "entry", "status"),
		bytes:    counter("bytes_total", "Bytes sent.", "entry"),
		failures: counter("failures_total", "Runs in which something failed.", "entry"),
		success:  gauge("last_success_timestamp_seconds", "Time of the last run of an entry without failures.", "entry"),
		quota:    gauge("quota_remaining", "Remaining pulls that the registry last reported.", "registry"),
	}
	own.MustRegister(m.images, m.bytes, m.failures, m.success, m.quota)
	return m
}

// Expect creates the series of all entries, so that a query finds them before the first
// run, and deletes those of entries that are gone.
func (m *Metrics) Expect(old, entries []*Entry) {
	for _, e := range old {
		if !slices.ContainsFunc(entries, func(n *Entry) bool { return n.Name == e.Name }) {
			gone := prometheus.Labels{"entry": e.Name}
			m.images.DeletePartialMatch(gone)
			m.bytes.DeletePartialMatch(gone)
			m.failures.DeletePartialMatch(gone)
			m.success.DeletePartialMatch(gone)
		}
	}
	for _, e := range entries {
		m.bytes.WithLabelValues(e.Name)
		m.failures.WithLabelValues(e.Name)
		m.success.WithLabelValues(e.Name) // 0 until the first success, for alerts
	}
}

// Quota sets the number of pulls that remain at a registry.
func (m *Metrics) Quota(host string, remaining int) {
	m.quota.WithLabelValues(host).Set(float64(remaining))
}

// Observe counts the outcome of a round. A round without a failure updates the time of
// the last success, even if it copied nothing.
func (m *Metrics) Observe(entry string, r *Report) {
	for status, n := range map[string]int{Copied: r.Copied, Unchanged: r.Same, Skipped: r.Skipped, Failed: r.Failed} {
		m.images.WithLabelValues(entry, status).Add(float64(n))
	}
	m.bytes.WithLabelValues(entry).Add(float64(r.Bytes))
	if r.Failed > 0 {
		m.failures.WithLabelValues(entry).Inc()
		return
	}
	m.success.WithLabelValues(entry).SetToCurrentTime()
}
