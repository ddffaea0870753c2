package mirror

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// A Watcher carries entries out whenever they are due. No entry is carried out
// twice at once.
type Watcher struct {
	// Run carries one entry out. It is called for several at once.
	Run func(ctx context.Context, e *Entry) *Report
	// Load reads the plan again; an error leaves the one there is.
	Load func() ([]*Entry, error)
	// Reload tells to do so.
	Reload <-chan struct{}
	// Now is the time, and Sleep waits for d or until ctx ends, whose error it then
	// returns. nil means the clock.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	Log   *slog.Logger

	loops sync.WaitGroup
	mu    sync.Mutex
	busy  map[string]chan struct{} // full while the entry of that name is carried out
}

// Watch carries the entries out at once and then as their schedules say, until ctx
// ends; those without a schedule once. It returns when all that is under way has
// ended.
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
	defer w.loops.Wait()
	for ctx.Err() == nil {
		entries = w.until(ctx, entries)
	}
}

// until watches one plan until there is another or ctx ends. What is under way
// then is carried out to its end: only who waits is woken.
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

// loop carries one entry out, again and again.
func (w *Watcher) loop(ctx, waiting context.Context, e *Entry) {
	for waiting.Err() == nil {
		report := w.alone(ctx, waiting, e)
		if report == nil || e.Schedule == nil {
			return
		}
		next := e.next(w.Now(), report.RetryAt())
		w.Log.DebugContext(ctx, "waiting", "entry", e.Name, "until", next.UTC().Format(time.RFC3339))
		if w.Sleep(waiting, next.Sub(w.Now())) != nil {
			return
		}
	}
}

// alone carries an entry out when one of the same name, of an older plan, has ended;
// nil where by then there is a newer plan.
func (w *Watcher) alone(ctx, waiting context.Context, e *Entry) *Report {
	w.mu.Lock()
	if w.busy == nil {
		w.busy = map[string]chan struct{}{}
	}
	if w.busy[e.Name] == nil {
		w.busy[e.Name] = make(chan struct{}, 1)
	}
	busy := w.busy[e.Name]
	w.mu.Unlock()
	select {
	case busy <- struct{}{}:
		defer func() { <-busy }()
	case <-waiting.Done():
	}
	if waiting.Err() != nil {
		return nil
	}
	return w.Run(ctx, e)
}

// next is when an entry is due after now, and not before a registry wants to be
// asked again.
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
