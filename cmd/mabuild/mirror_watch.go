package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/mirror"
)

// watchPlan runs the entries of a plan on their schedules until ctx ends, and returns the
// cause. The whole process holds no cache entries; each round does while it runs, so that
// the cache can be pruned in between.
func watchPlan(ctx context.Context, a *app, o mirrorOptions, p *mirrorFile) error {
	w := &watch{app: a, options: o, observer: mirror.NewObserver(o.writeReport), plan: p}
	stop, err := serveStatus(ctx, a, w.observer, o.listen, o.listenHosts)
	if err != nil {
		return err
	}
	defer stop()
	if !slices.ContainsFunc(p.entries, func(e *mirror.Entry) bool { return e.Schedule != nil }) {
		return usage("add every: 6h or cron:", "--watch %s: no entry has a schedule", o.file)
	}
	w.observer.Expect(p.entries)
	a.leaveCache() // each round holds the cache itself
	watcher := &mirror.Watcher{
		Run: w.round, Load: w.load, Reload: hangups(ctx), Log: a.log,
		Scheduled: func(e *mirror.Entry, at time.Time) { w.observer.Schedule(e.Name, at) },
	}
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
	w.observer.Begin(e.Name, time.Now())
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
	problems := problemsOf(report)
	for _, one := range problems {
		log.ErrorContext(ctx, one.Message, "hint", one.Hint)
	}
	var quotas []mirror.Quota
	for host, q := range client.Quotas() {
		quotas = append(quotas, mirror.Quota{Registry: host, Remaining: q.Remaining, Limit: q.Limit, Seconds: int(q.Window.Seconds())})
	}
	if err := w.observer.Observe(e.Name, report, problems, quotas); err != nil {
		log.WarnContext(ctx, err.Error())
	}
	log.InfoContext(ctx, "run finished", "copied", report.Copied, "unchanged", report.Same,
		"skipped", report.Skipped, "failed", report.Failed, "bytes", report.Bytes)
	return report
}

// problemsOf returns each error of a report with its hint.
func problemsOf(r *mirror.Report) (problems []mirror.Problem) {
	err, _ := r.Err()
	if err == nil {
		return nil
	}
	for _, one := range hint.Parts(err) {
		problems = append(problems, mirror.Problem{Message: one.Error(), Hint: hintOf(one)})
	}
	return problems
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
