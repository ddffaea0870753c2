package mirror

import (
	"slices"
	"sync"
	"time"

	"github.com/mabuild/mabuild/internal/metrics"
)

// The metrics of a [Watcher]. docs/mirror.md says what they count.
const (
	imagesTotal   = "mabuild_mirror_images_total"
	bytesTotal    = "mabuild_mirror_bytes_total"
	failuresTotal = "mabuild_mirror_failures_total"
	lastSuccess   = "mabuild_mirror_last_success_timestamp_seconds"
	quotaLeft     = "mabuild_mirror_quota_remaining"
)

// An Observer shows the state of a [Watcher]: as the metrics of Prometheus, as one report
// of the last run of each entry, and as a [Status]. It is safe for concurrent use.
type Observer struct {
	Metrics metrics.Set // of the watcher and no others

	// mu guards the following. It is held during Observe, so that a new plan cannot remove
	// the entry in between.
	mu    sync.Mutex
	write func(*Report) error
	plan  []*Entry
	// entries has the status of entries by name, quotas those of registries by host.
	entries map[string]*EntryStatus
	quotas  map[string]Quota
	last    map[string]EntryReport
	all     []string // names in last, in the order of their first report
}

// NewObserver returns an observer. write gets the joined report after each run; its calls do not overlap.
func NewObserver(write func(*Report) error) *Observer {
	return &Observer{
		Metrics: metrics.New(), write: write, last: map[string]EntryReport{},
		entries: map[string]*EntryStatus{}, quotas: map[string]Quota{},
	}
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
		for _, status := range []string{Copied, Unchanged, Skipped, Failed} {
			o.Metrics.Remove(imagesTotal, "entry", e.Name, "status", status)
		}
		for _, name := range []string{bytesTotal, failuresTotal, lastSuccess} {
			o.Metrics.Remove(name, "entry", e.Name)
		}
		delete(o.last, e.Name)
		delete(o.entries, e.Name)
		o.all = slices.DeleteFunc(o.all, func(name string) bool { return name == e.Name })
	}
	for _, e := range entries {
		o.Metrics.Counter(bytesTotal, "entry", e.Name)
		o.Metrics.Counter(failuresTotal, "entry", e.Name)
		o.Metrics.Gauge(lastSuccess, "entry", e.Name) // 0 until the first success, for alerts
	}
}

// planned reports whether the plan has an entry of that name. mu is held.
func (o *Observer) planned(name string) bool {
	return slices.ContainsFunc(o.plan, func(e *Entry) bool { return e.Name == name })
}

// Observe counts the outcome of a round and the pulls that remain at registries, and
// writes the joined report. problems are the errors of the round for people. A round without a failure updates the time of the last success,
// even if it copied nothing. An entry that the plan no longer has is ignored: it would
// appear again.
func (o *Observer) Observe(entry string, r *Report, problems []Problem, quotas []Quota) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.planned(entry) {
		return nil
	}
	for _, q := range quotas {
		o.Metrics.Gauge(quotaLeft, "registry", q.Registry).Set(float64(q.Remaining))
		o.quotas[q.Registry] = q
	}
	o.finish(entry, r, problems)
	for status, n := range map[string]int{Copied: r.Copied, Unchanged: r.Same, Skipped: r.Skipped, Failed: r.Failed} {
		o.Metrics.Counter(imagesTotal, "entry", entry, "status", status).Add(n)
	}
	o.Metrics.Counter(bytesTotal, "entry", entry).AddInt64(r.Bytes)
	if r.Failed > 0 {
		o.Metrics.Counter(failuresTotal, "entry", entry).Inc()
	} else {
		o.Metrics.Gauge(lastSuccess, "entry", entry).Set(float64(time.Now().Unix()))
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
