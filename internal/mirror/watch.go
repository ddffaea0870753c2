package mirror

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// A Watcher runs entries on their schedules. An entry, known by its name, never runs
// twice at the same time, even if the plan was reloaded while it ran. The fields are not
// changed after Watch was called.
type Watcher struct {
	// Run executes one entry. It is called concurrently for different entries.
	Run func(ctx context.Context, e *Entry) *Report
	// Load reads the plan again. If it fails, the previous plan stays.
	Load func() ([]*Entry, error)
	// Reload requests a Load for each value.
	Reload <-chan struct{}
	// Scheduled is told when an entry runs next; nil tells nobody.
	Scheduled func(e *Entry, at time.Time)
	// Now returns the time. Sleep waits for d, or until ctx ends and then returns its
	// error. nil means the clock.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	Log   *slog.Logger

	loops sync.WaitGroup
	busy  sync.Map // of channels, by name of the entry: full while it runs
}

// Watch runs all entries at once and then on their schedules, and entries without a
// schedule once, until ctx ends. It returns when all runs have ended. Every reload runs
// the entries of the new plan at once.
func (w *Watcher) Watch(ctx context.Context, entries []*Entry) {
	if w.Now == nil {
		w.Now = time.Now
	}
	if w.Sleep == nil {
		w.Sleep = sleep
	}
	if w.Log == nil {
		w.Log = slog.New(slog.DiscardHandler)
	}
	// Loops of replaced plans may still run an entry. Their end is awaited, too.
	defer w.loops.Wait()
	for ctx.Err() == nil {
		entries = w.until(ctx, entries)
	}
}

// until watches one plan until there is a new one or ctx ends. Running entries are not
// interrupted by a reload: waiting ends with the plan and wakes only loops that wait.
func (w *Watcher) until(ctx context.Context, entries []*Entry) (next []*Entry) {
	waiting, wake := context.WithCancel(ctx)
	defer wake()
	for _, e := range entries {
		w.loops.Go(func() { w.loop(ctx, waiting, e) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Reload:
		}
		loaded, err := w.Load()
		if err == nil {
			w.Log.InfoContext(ctx, "reloaded the file", "entries", len(loaded))
			return loaded
		}
		w.Log.ErrorContext(ctx, "the changed file is invalid; continuing with the previous one", "err", err)
	}
}

// loop runs one entry again and again until its plan is replaced.
func (w *Watcher) loop(ctx, waiting context.Context, e *Entry) {
	for waiting.Err() == nil {
		report := w.alone(ctx, waiting, e)
		if report == nil || e.Schedule == nil {
			return
		}
		next := e.next(w.Now(), report.RetryAt())
		if ctx.Err() == nil {
			if w.Scheduled != nil {
				w.Scheduled(e, next)
			}
			w.Log.InfoContext(ctx, "next run", "entry", e.Name, "at", next.UTC().Format(time.RFC3339))
		}
		if w.Sleep(waiting, next.Sub(w.Now())) != nil {
			return
		}
	}
}

// alone runs an entry after a run of the same name, possibly of an older plan, has ended.
// It returns nil if the plan was replaced meanwhile.
func (w *Watcher) alone(ctx, waiting context.Context, e *Entry) *Report {
	found, _ := w.busy.LoadOrStore(e.Name, make(chan struct{}, 1))
	busy := found.(chan struct{})
	select {
	// The channel is a lock that a waiting loop can give up when its plan is replaced.
	case busy <- struct{}{}:
		defer func() { <-busy }()
	case <-waiting.Done():
	}
	if waiting.Err() != nil {
		return nil
	}
	return w.Run(ctx, e)
}

// next returns the time of the next run: the next one of the schedule, but not before the
// time that a registry asked for, plus the jitter.
func (e *Entry) next(now, notBefore time.Time) time.Time {
	at := e.Schedule.Next(now)
	if at.Before(notBefore) {
		at = notBefore
	}
	if e.Jitter > 0 {
		at = at.Add(rand.N(e.Jitter)) //nolint:gosec // jitter keeps no secret
	}
	return at
}

// sleep is Sleep by the clock.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
