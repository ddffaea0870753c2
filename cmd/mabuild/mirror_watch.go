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

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/serve"
)

// watchPlan runs the entries of a plan on their schedules until ctx ends, and returns the
// cause. The whole process holds no cache entries; each round does while it runs, so that
// the cache can be pruned in between.
func watchPlan(ctx context.Context, a *app, o mirrorOptions, p *mirrorFile) error {
	w := &watch{app: a, options: o, observer: mirror.NewObserver(o.writeReport), plan: p}
	stop, err := serveMetrics(ctx, a, w.observer.Metrics, o.listen, o.listenHosts)
	if err != nil {
		return err
	}
	defer stop()
	if !slices.ContainsFunc(p.entries, func(e *mirror.Entry) bool { return e.Schedule != nil }) {
		return usage("add every: 6h or cron:", "--watch %s: no entry has a schedule", o.file)
	}
	w.observer.Expect(p.entries)
	a.leaveCache() // each round holds the cache itself
	watcher := &mirror.Watcher{Run: w.round, Load: w.load, Reload: hangups(ctx), Log: a.log}
	watcher.Watch(ctx, p.entries)
	return context.Cause(ctx)
}

// A watch is the state of mirror --watch. Rounds of different entries run concurrently.
type watch struct {
	app      *app
	options  mirrorOptions
	observer *mirror.Observer

	mu   sync.Mutex  // guards plan
	plan *mirrorFile // the last valid one
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
	w.observer.Expect(fresh.entries)
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
	remaining := map[string]int{}
	for host, q := range client.Quotas() {
		remaining[host] = q.Remaining
	}
	if err := w.observer.Observe(e.Name, report, remaining); err != nil {
		log.WarnContext(ctx, err.Error())
	}
	log.InfoContext(ctx, "run finished", "copied", report.Copied, "unchanged", report.Same,
		"skipped", report.Skipped, "failed", report.Failed, "bytes", report.Bytes)
	return report
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

// serveMetrics answers /healthz and /metrics at addr until ctx ends or stop is called; stop
// waits for the server to end. Only requests to names that [serve.Policy] permits, or to
// hosts, are answered, which protects against DNS rebinding. If addr is "", it does
// nothing.
func serveMetrics(ctx context.Context, a *app, metrics http.Handler, addr string, hosts []string) (stop func(), err error) {
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
	mux.Handle("GET /metrics", metrics)
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
