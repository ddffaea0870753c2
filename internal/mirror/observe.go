package mirror

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// An Observer shows the state of a [Watcher]: as the metrics of Prometheus, and as one
// report of the last run of each entry. It is safe for concurrent use.
type Observer struct {
	Gatherer prometheus.Gatherer // of these metrics and no others

	images   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	failures *prometheus.CounterVec
	success  *prometheus.GaugeVec
	quota    *prometheus.GaugeVec

	// mu guards the following. It is held during Observe, so that a new plan cannot remove
	// the entry in between.
	mu    sync.Mutex
	write func(*Report) error
	plan  []*Entry
	last  map[string]EntryReport
	all   []string // names in last, in the order of their first report
}

// NewObserver registers the metrics in a separate registry, without those of the Go
// runtime. write gets the joined report after each run; its calls do not overlap.
func NewObserver(write func(*Report) error) *Observer {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "mabuild", Subsystem: "mirror", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "mabuild", Subsystem: "mirror", Name: name, Help: help}, labels)
	}
	own := prometheus.NewRegistry()
	o := &Observer{
		Gatherer: own,
		images:   counter("images_total", "Images processed, by outcome.", "entry", "status"),
		bytes:    counter("bytes_total", "Bytes sent.", "entry"),
		failures: counter("failures_total", "Runs in which something failed.", "entry"),
		success:  gauge("last_success_timestamp_seconds", "Time of the last run of an entry without failures.", "entry"),
		quota:    gauge("quota_remaining", "Remaining pulls that the registry last reported.", "registry"),
		write:    write,
		last:     map[string]EntryReport{},
	}
	own.MustRegister(o.images, o.bytes, o.failures, o.success, o.quota)
	return o
}

// Expect makes entries the plan. It creates their series, so that a query finds them before
// the first run, and removes the series and reports of entries that are gone.
func (o *Observer) Expect(entries []*Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.plan
	o.plan = entries
	for _, e := range old {
		if o.planned(e.Name) {
			continue
		}
		gone := prometheus.Labels{"entry": e.Name}
		o.images.DeletePartialMatch(gone)
		o.bytes.DeletePartialMatch(gone)
		o.failures.DeletePartialMatch(gone)
		o.success.DeletePartialMatch(gone)
		delete(o.last, e.Name)
		o.all = slices.DeleteFunc(o.all, func(name string) bool { return name == e.Name })
	}
	for _, e := range entries {
		o.bytes.WithLabelValues(e.Name)
		o.failures.WithLabelValues(e.Name)
		o.success.WithLabelValues(e.Name) // 0 until the first success, for alerts
	}
}

// planned reports whether the plan has an entry of that name. mu is held.
func (o *Observer) planned(name string) bool {
	return slices.ContainsFunc(o.plan, func(e *Entry) bool { return e.Name == name })
}

// Observe counts the outcome of a round and the pulls that remain at each registry, and
// writes the joined report. A round without a failure updates the time of the last success,
// even if it copied nothing. An entry that the plan no longer has is ignored: it would
// appear again.
func (o *Observer) Observe(entry string, r *Report, remaining map[string]int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.planned(entry) {
		return nil
	}
	for host, n := range remaining {
		o.quota.WithLabelValues(host).Set(float64(n))
	}
	for status, n := range map[string]int{Copied: r.Copied, Unchanged: r.Same, Skipped: r.Skipped, Failed: r.Failed} {
		o.images.WithLabelValues(entry, status).Add(float64(n))
	}
	o.bytes.WithLabelValues(entry).Add(float64(r.Bytes))
	if r.Failed > 0 {
		o.failures.WithLabelValues(entry).Inc()
	} else {
		o.success.WithLabelValues(entry).SetToCurrentTime()
	}
	for _, e := range r.Entries {
		if _, there := o.last[e.Name]; !there {
			o.all = append(o.all, e.Name)
		}
		o.last[e.Name] = e
	}
	return o.write(o.joined())
}

// joined returns the last reports as one, with the sums over all entries. mu is held.
func (o *Observer) joined() *Report {
	var whole Report
	for _, name := range o.all {
		e := o.last[name]
		whole.Entries = append(whole.Entries, e)
		if whole.Started.IsZero() || e.Started.Before(whole.Started) {
			whole.Started = e.Started
		}
		whole.Seconds += e.Seconds
	}
	whole.Count()
	return &whole
}
