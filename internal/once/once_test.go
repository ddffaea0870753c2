package once

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

var errFailed = errors.New("failed")

// Callers with one key share one run, and callers with another key do not wait for it.
func TestFlightShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[string, int]
		var runs atomic.Int32
		release := make(chan struct{})
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				got, err := f.Do(t.Context(), "a", func() (int, error) {
					<-release
					return int(runs.Add(1)), errFailed
				})
				if got != 1 || !errors.Is(err, errFailed) {
					t.Errorf("%d, %v", got, err)
				}
			})
		}
		synctest.Wait()
		if got, err := f.Do(t.Context(), "b", func() (int, error) { return 7, nil }); got != 7 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		close(release)
		group.Wait()
		if _, err := f.Do(t.Context(), "a", func() (int, error) { return 0, nil }); err != nil {
			t.Errorf("the error was stored: %v", err)
		}
	})
}

// A cancelled caller does not cancel the others: one of them runs the work again.
func TestFlightOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[string, string]
		first, cancel := context.WithCancelCause(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			_, err := f.Do(first, "a", func() (string, error) {
				<-first.Done()
				return "", context.Cause(first)
			})
			if !errors.Is(err, errFailed) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		impatient, leave := context.WithCancel(t.Context())
		leave()
		if _, err := f.Do(impatient, "a", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled caller: %v", err)
		}
		group.Go(func() {
			if got, err := f.Do(t.Context(), "a", func() (string, error) { return "again", nil }); got != "again" || err != nil {
				t.Errorf("the second: %q, %v", got, err)
			}
		})
		synctest.Wait()
		cancel(errFailed)
		group.Wait()
	})
}

// If the work panics, all waiting callers get an error.
func TestFlightPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flight[int, int]
		release := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was not passed on")
				}
			}()
			_, _ = f.Do(t.Context(), 1, func() (int, error) {
				<-release
				panic("of work")
			})
		})
		synctest.Wait()
		group.Go(func() {
			if _, err := f.Do(t.Context(), 1, func() (int, error) { return 0, nil }); err == nil {
				t.Error("no error")
			}
		})
		synctest.Wait()
		close(release)
		group.Wait()
	})
}

// Do stores values and errors, Ensure only values. Neither stores the error of a caller
// whose context ended.
func TestMemo(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	fail := func() (int, error) { return 0, errFailed }
	two := func() (int, error) { return 2, nil }
	for name, do := range map[string]func(m *Memo[string, int], ctx context.Context, work func() (int, error)) (int, error){
		"Do": func(m *Memo[string, int], ctx context.Context, work func() (int, error)) (int, error) {
			return m.Do(ctx, "a", work)
		},
		"Ensure": func(m *Memo[string, int], ctx context.Context, work func() (int, error)) (int, error) {
			return m.Ensure(ctx, "a", work)
		},
	} {
		var m Memo[string, int]
		if _, err := do(&m, ended, fail); !errors.Is(err, errFailed) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := do(&m, t.Context(), two); got != 2 || err != nil {
			t.Errorf("%s stores the error of an ended context: %d, %v", name, got, err)
		}
		m.Forget("a")
		if _, ok := m.Get("a"); ok {
			t.Errorf("%s: a forgotten value was found", name)
		}
		if _, err := do(&m, t.Context(), fail); !errors.Is(err, errFailed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := m.Get("a"); ok {
			t.Errorf("%s: Get returns a value after an error", name)
		}
		if _, err := do(&m, t.Context(), two); errors.Is(err, errFailed) != (name == "Do") {
			t.Errorf("%s after an error: %v", name, err)
		}
		m.Set("a", 4)
		if got, err := do(&m, t.Context(), fail); got != 4 || err != nil {
			t.Errorf("%s after Set: %d, %v", name, got, err)
		}
	}
}
