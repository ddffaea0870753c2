package mirror

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/robfig/cron/v3"
)

// A diary records when entries run, on a simulated clock.
type diary struct {
	mu    sync.Mutex
	start time.Time
	at    map[string][]time.Duration
	now   map[string]int
	took  time.Duration
	err   error
	t     *testing.T
}

func (d *diary) run(ctx context.Context, e *Entry) *Report {
	d.mu.Lock()
	d.at[e.Name] = append(d.at[e.Name], time.Since(d.start))
	if d.now[e.Name]++; d.now[e.Name] > 1 {
		d.t.Errorf("two runs of %s at the same time", e.Name)
	}
	d.mu.Unlock()
	select {
	case <-time.After(d.took):
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now[e.Name]--
	r := &Report{Entries: []EntryReport{{Name: e.Name}}}
	if d.err != nil {
		r.Entries[0].Images = []Result{failed("s", "t", d.err)}
	}
	return r
}

func newDiary(t *testing.T) *diary {
	return &diary{t: t, start: time.Now(), at: map[string][]time.Duration{}, now: map[string]int{}}
}

func every(d time.Duration) cron.Schedule { return cron.ConstantDelaySchedule{Delay: d} }

// Each entry runs on its schedule, and a slow one does not overlap itself.
func TestWatchKeepsSchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t)
		d.took = 10 * time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 13*time.Hour)
		defer cancel()
		w := &Watcher{Run: d.run}
		w.Watch(ctx, []*Entry{
			{Name: "six", Schedule: every(6 * time.Hour)},
			{Name: "quick", Schedule: every(time.Minute)}, // slower than its schedule
			{Name: "once"},
		})
		if got := d.at["six"]; len(got) != 3 || got[1] != 6*time.Hour+10*time.Minute {
			t.Errorf("six: %v", got)
		}
		if got := d.at["quick"]; len(got) < 60 || got[1] != 11*time.Minute {
			t.Errorf("quick: %v", got)
		}
		if got := d.at["once"]; len(got) != 1 {
			t.Errorf("once: %v", got)
		}
	})
}

// An entry that a registry delays runs at the time that the registry allows.
func TestWatchPutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t)
		d.err = toldError{time.Now().Add(5 * time.Hour)}
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour+time.Minute)
		defer cancel()
		(&Watcher{Run: d.run}).Watch(ctx, []*Entry{{Name: "e", Schedule: every(time.Hour)}})
		if got := d.at["e"]; len(got) != 3 || got[1] != 5*time.Hour || got[2] != 6*time.Hour {
			t.Errorf("%v", got)
		}
	})
}

type toldError struct{ at time.Time }

func (toldError) Error() string                { return "come again" }
func (e toldError) RetryAt() (time.Time, bool) { return e.at, true }

// A reload replaces the plan when running entries have ended; a broken file keeps the old
// plan.
func TestWatchReadsThePlanAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t)
		d.took = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		reload := make(chan struct{})
		var mended atomic.Bool
		w := &Watcher{Run: d.run, Reload: reload, Load: func() ([]*Entry, error) {
			if !mended.Load() {
				return nil, errors.New("line 3: no")
			}
			return []*Entry{{Name: "a", Schedule: every(24 * time.Hour)}, {Name: "new"}}, nil
		}}
		go func() {
			time.Sleep(2 * time.Hour)
			reload <- struct{}{} // the old plan continues
			time.Sleep(90 * time.Minute)
			mended.Store(true)
			reload <- struct{}{} // while a runs
		}()
		w.Watch(ctx, []*Entry{{Name: "a", Schedule: every(2 * time.Hour)}, {Name: "gone", Schedule: every(8 * time.Hour)}})
		// a runs at 0 and at 3h (1h + 2h); under the new plan, after the end of that run,
		// at 4h.
		if got := d.at["a"]; len(got) != 3 || got[1] != 3*time.Hour || got[2] != 4*time.Hour {
			t.Errorf("a: %v", got)
		}
		if got := d.at["new"]; len(got) != 1 || got[0] != 210*time.Minute {
			t.Errorf("new: %v", got)
		}
		if got := d.at["gone"]; len(got) != 1 {
			t.Errorf("gone: %v", got)
		}
	})
}

// If the plan is reloaded several times while an entry runs, only the last plan continues.
// Queued entries of earlier plans do not run.
func TestWatchForgetsOldPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t)
		d.took = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		reload := make(chan struct{})
		var loads atomic.Int32
		w := &Watcher{Run: d.run, Reload: reload, Load: func() ([]*Entry, error) {
			if loads.Add(1) == 4 {
				return []*Entry{{Name: "other"}}, nil
			}
			return []*Entry{{Name: "a", Schedule: every(time.Minute)}}, nil
		}}
		go func() {
			for range 4 {
				time.Sleep(10 * time.Minute)
				reload <- struct{}{}
			}
		}()
		w.Watch(ctx, []*Entry{{Name: "a", Schedule: every(time.Minute)}})
		if got := d.at["a"]; len(got) != 1 {
			t.Errorf("a: %v", got)
		}
		if got := d.at["other"]; len(got) != 1 || got[0] != 40*time.Minute {
			t.Errorf("other: %v", got)
		}
	})
}

// Jitter delays a run by less than its bound, and by different times.
func TestJitterStaysWithinBounds(t *testing.T) {
	e := &Entry{Schedule: every(time.Hour), Jitter: time.Minute}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	differ := map[time.Time]bool{}
	for range 100 {
		at := e.next(now, time.Time{})
		if d := at.Sub(now); d < time.Hour || d >= time.Hour+time.Minute {
			t.Fatalf("after %v", d)
		}
		differ[at] = true
	}
	if len(differ) < 2 {
		t.Error("all runs start at the same time")
	}
}
