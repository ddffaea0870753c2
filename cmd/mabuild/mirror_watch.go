package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/serve"
	"github.com/mabuild/mabuild/manifest/registry"
)

// watchPlan runs the entries of a plan on their schedules until ctx ends, and returns the
// cause. The whole process holds no cache entries; each round does while it runs, so that
// the cache can be pruned in between.
func watchPlan(ctx context.Context, a *app, o mirrorOptions, p *mirrorFile) error {
	w := &watch{app: a, options: o, metrics: newMetrics(), reports: lastReports{file: o.report}, plan: p}
	stop, err := w.metrics.serve(ctx, a, o.listen, o.listenHosts)
	if err != nil {
		return err
	}
	defer stop()
	if !slices.ContainsFunc(p.entries, func(e *mirror.Entry) bool { return e.Schedule != nil }) {
		return usage("add every: 6h or cron:", "--watch %s: no entry has a schedule", o.file)
	}
	w.metrics.expect(nil, p.entries)
	a.leaveCache() // each round holds the cache itself
	watcher := &mirror.Watcher{Run: w.round, Load: w.load, Reload: hangups(ctx), Log: a.log}
	watcher.Watch(ctx, p.entries)
	return context.Cause(ctx)
}

// A watch is the state of mirror --watch. Rounds of different entries run concurrently.
type watch struct {
	app     *app
	options mirrorOptions
	metrics *metrics
	reports lastReports

	// mu guards plan, the last valid one. It is taken before the lock of reports, never
	// after.
	mu   sync.Mutex
	plan *mirrorFile
}

// load reads the file again after a SIGHUP. If it is invalid, the old plan stays in
// effect.
func (w *watch) load() ([]*mirror.Entry, error) {
	fresh, err := w.app.loadPlan(w.options)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh.succeed(w.plan)
	w.metrics.expect(w.plan.entries, fresh.entries)
	w.reports.expect(fresh.entries)
	w.plan = fresh
	return fresh.entries, nil
}

// round runs one entry with a new client. A client remembers for one run what it saw, and
// tags may have moved since. It works with the plan that was valid at the start, even if
// the file is read again meanwhile. An interrupted round is not recorded: it says nothing
// about the state of the mirror.
func (w *watch) round(ctx context.Context, e *mirror.Entry) *mirror.Report {
	w.mu.Lock()
	p := w.plan
	w.mu.Unlock()
	leave := w.app.holdCache(ctx)
	client := w.app.clientFor(p, w.options)
	report := w.options.runOnce(ctx, w.app, w.app.placesOf(client, p.fence), &p.claims, []*mirror.Entry{e})
	// Entries are released first, or they would count as in use when the cache is pruned.
	leave()
	w.app.bound(ctx)
	if ctx.Err() != nil {
		return report // interrupted
	}
	log := w.app.log.With("entry", e.Name)
	if err, _ := report.Err(); err != nil {
		// Each error is one record, with its hint.
		for _, one := range hint.Parts(err) {
			log.ErrorContext(ctx, one.Error(), "hint", hintOf(one))
		}
	}
	if err := w.record(e.Name, report, client.Quotas()); err != nil {
		log.WarnContext(ctx, err.Error())
	}
	log.InfoContext(ctx, "run finished", "copied", report.Copied, "unchanged", report.Same,
		"skipped", report.Skipped, "failed", report.Failed, "bytes", report.Bytes)
	return report
}

// record updates metrics and report file after a round, unless the plan has been replaced
// and no longer has the entry. Otherwise a removed entry would appear again in both. It
// holds mu, so that load cannot remove the entry in between.
func (w *watch) record(entry string, r *mirror.Report, quotas map[string]registry.Quota) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.plan.has(entry) {
		return nil
	}
	w.metrics.observe(entry, r, quotas)
	return w.reports.write(r)
}

// hangups returns a channel that receives after each SIGHUP until ctx ends. Signals that
// arrive before the receiver is ready are one, since reading the file once is enough.
func hangups(ctx context.Context) <-chan struct{} {
	signals := make(chan os.Signal, 1)
	notifyHangup(signals)
	hangups := make(chan struct{}, 1)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case hangups <- struct{}{}:
				default: // one is waiting already
				}
			}
		}
	}()
	return hangups
}

// lastReports keeps the last report of each entry in one file, for --report with --watch.
// It is safe for concurrent use.
type lastReports struct {
	file string
	mu   sync.Mutex
	last map[string]mirror.EntryReport
	all  []string // names in the order of their first report
}

// write replaces the report of an entry and rewrites the file.
func (l *lastReports) write(r *mirror.Report) error {
	if l.file == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = map[string]mirror.EntryReport{}
	}
	for _, e := range r.Entries {
		if _, there := l.last[e.Name]; !there {
			l.all = append(l.all, e.Name)
		}
		l.last[e.Name] = e
	}
	return l.replace()
}

// expect removes the reports of entries that the plan no longer has.
func (l *lastReports) expect(entries []*mirror.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(name string) bool {
		gone := !slices.ContainsFunc(entries, func(e *mirror.Entry) bool { return e.Name == name })
		if gone {
			delete(l.last, name)
		}
		return gone
	})
}

// replace writes the file, with the sums over all entries. mu is held.
func (l *lastReports) replace() error {
	var whole mirror.Report
	for _, name := range l.all {
		e := l.last[name]
		whole.Entries = append(whole.Entries, e)
		if whole.Started.IsZero() || e.Started.Before(whole.Started) {
			whole.Started = e.Started
		}
		whole.Seconds += e.Seconds
	}
	whole.Count()
	return writeReport(l.file, &whole)
}

// metrics are the Prometheus metrics of mirror --watch. They are safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry
	images   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	failures *prometheus.CounterVec
	success  *prometheus.GaugeVec
	quota    *prometheus.GaugeVec
}

// newMetrics registers the metrics in a separate registry, without those of the Go
// runtime.
func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "mabuild", Subsystem: "mirror", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "mabuild", Subsystem: "mirror", Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		images:   counter("images_total", "Images processed, by outcome.", "entry", "status"),
		bytes:    counter("bytes_total", "Bytes sent.", "entry"),
		failures: counter("failures_total", "Runs in which something failed.", "entry"),
		success:  gauge("last_success_timestamp_seconds", "Time of the last run of an entry without failures.", "entry"),
		quota:    gauge("quota_remaining", "Remaining pulls that the registry last reported.", "registry"),
	}
	m.registry.MustRegister(m.images, m.bytes, m.failures, m.success, m.quota)
	return m
}

// expect creates the series of all entries, so that a query finds them before the first
// run, and deletes those of entries that are gone.
func (m *metrics) expect(old, entries []*mirror.Entry) {
	for _, e := range old {
		if !slices.ContainsFunc(entries, func(n *mirror.Entry) bool { return n.Name == e.Name }) {
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

// observe counts the outcome of a round. A round without a failure updates the time of
// the last success, even if it copied nothing.
func (m *metrics) observe(entry string, r *mirror.Report, quotas map[string]registry.Quota) {
	for host, q := range quotas {
		m.quota.WithLabelValues(host).Set(float64(q.Remaining))
	}
	for status, n := range map[string]int{mirror.Copied: r.Copied, mirror.Unchanged: r.Same, mirror.Skipped: r.Skipped, mirror.Failed: r.Failed} {
		m.images.WithLabelValues(entry, status).Add(float64(n))
	}
	m.bytes.WithLabelValues(entry).Add(float64(r.Bytes))
	if r.Failed > 0 {
		m.failures.WithLabelValues(entry).Inc()
		return
	}
	m.success.WithLabelValues(entry).SetToCurrentTime()
}

// serve answers /healthz and /metrics at addr until ctx ends or stop is called; stop
// waits for the server to end. Only requests to names that [serve.Policy] permits, or to
// hosts, are answered, which protects against DNS rebinding. If addr is "", it does
// nothing.
func (m *metrics) serve(ctx context.Context, a *app, addr string, hosts []string) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	if hosts, err = serve.ParseHosts(hosts); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, usage("for example --listen 127.0.0.1:8080", "--listen %s: %s", addr, errors.Unwrap(err))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }) //nolint:errcheck // the client is gone
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	logger := slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)
	policy := serve.Policy{Hosts: hosts, Flag: "--listen-host", Log: logger}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := serve.Serve(ctx, l, policy.Protect(mux), logger); err != nil {
			a.log.Warn("--listen: " + err.Error())
		}
	}()
	a.log.Info("listening", "address", l.Addr().String())
	return func() { cancel(); <-ended }, nil
}
