// Package once lets concurrent callers share work. A [Flight] runs equal work once at a
// time and forgets its result. A [Memo] also remembers results until [Memo.Forget].
//
// Both are safe for concurrent use, and neither holds a lock while work runs. Work runs
// in the goroutine of one of its callers and with the values of that caller: it is not
// detached from it. A Memo never evicts, so its keys must be bounded by what one run or
// one object handles.
package once

import (
	"context"
	"errors"
	"sync"
)

// A Flight runs work once at a time for each key. The zero value is ready. It must not be
// copied after its first use.
type Flight[K comparable, V any] struct {
	mu sync.Mutex
	// running has the result of each key whose work runs now.
	running map[K]*result[V]
}

// A result is what work returned. The fields of a running result are written before done
// is closed and read after that, so they need no lock. A remembered result has no done.
type result[V any] struct {
	done      chan struct{}
	value     V
	err       error
	abandoned bool // work failed and the ctx of its caller had ended
}

// Do runs work, or waits for the run of another caller with the same key and shares its
// result. If that run failed and the ctx of its caller had ended, a waiter whose own ctx
// has not ended runs work itself: one caller that gives up does not fail the others. A
// caller whose ctx ends while it waits gets the cause of ctx.
//
// If work panics, the panic goes up in the caller that ran it, and the waiters get an
// error. Work must not call Do with its own key, because it would wait for itself.
func (f *Flight[K, V]) Do(ctx context.Context, key K, work func() (V, error)) (V, error) {
	for {
		f.mu.Lock()
		other, running := f.running[key]
		if !running {
			return f.lead(ctx, key, work)
		}
		f.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			var none V
			return none, context.Cause(ctx)
		}
		if !other.abandoned || ctx.Err() != nil {
			return other.value, other.err
		}
	}
}

// lead runs work for all callers that wait. f.mu is held at the call and released before
// work runs. The key is deleted before done is closed, so a waiter that tries again never
// finds the result it has just seen.
func (f *Flight[K, V]) lead(ctx context.Context, key K, work func() (V, error)) (V, error) {
	// The error is what waiters get if work panics. Otherwise it is replaced.
	mine := &result[V]{done: make(chan struct{}), err: errors.New("work did not return")}
	if f.running == nil {
		f.running = map[K]*result[V]{}
	}
	f.running[key] = mine
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.running, key)
		f.mu.Unlock()
		close(mine.done)
	}()
	mine.value, mine.err = work()
	mine.abandoned = mine.err != nil && ctx.Err() != nil
	return mine.value, mine.err
}

// A Memo is a [Flight] that remembers what work returned. The zero value is ready. It
// must not be copied after its first use.
type Memo[K comparable, V any] struct {
	flight Flight[K, V]
	mu     sync.Mutex
	// known has values and errors. mu guards it; the lock of flight is never taken under
	// mu.
	known map[K]result[V]
}

// Do returns the remembered result for key, or runs work as [Flight.Do] does and
// remembers its value or error. An error is not remembered if ctx has ended, since it
// says nothing about the next caller.
func (m *Memo[K, V]) Do(ctx context.Context, key K, work func() (V, error)) (V, error) {
	return m.do(ctx, key, work, func(err error) bool { return err == nil || ctx.Err() == nil })
}

// Ensure is Do, but it remembers no error: work runs again until it succeeds once.
// Callers that wait for the same run still share its error.
func (m *Memo[K, V]) Ensure(ctx context.Context, key K, work func() (V, error)) (V, error) {
	return m.do(ctx, key, work, func(err error) bool { return err == nil })
}

// do is Do and Ensure; keep decides if a result with this error is remembered.
func (m *Memo[K, V]) do(ctx context.Context, key K, work func() (V, error), keep func(error) bool) (V, error) {
	if r, ok := m.recall(key); ok {
		return r.value, r.err
	}
	return m.flight.Do(ctx, key, func() (V, error) {
		// A run may have ended between the look above and the start of this one. Without
		// this second look its work would run twice.
		if r, ok := m.recall(key); ok {
			return r.value, r.err
		}
		value, err := work()
		if keep(err) {
			m.remember(key, result[V]{value: value, err: err})
		}
		return value, err
	})
}

// Get returns the value for key if one is remembered. It reports false for a remembered
// error and does not wait for running work.
func (m *Memo[K, V]) Get(key K) (V, bool) {
	r, ok := m.recall(key)
	return r.value, ok && r.err == nil
}

// Set remembers a value for key. A run that has already started may replace it when it
// ends.
func (m *Memo[K, V]) Set(key K, value V) { m.remember(key, result[V]{value: value}) }

// Forget removes what is remembered for key. A running call is not stopped, and its
// result is remembered when it ends.
func (m *Memo[K, V]) Forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, key)
}

func (m *Memo[K, V]) recall(key K) (result[V], bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.known[key]
	return r, ok
}

func (m *Memo[K, V]) remember(key K, r result[V]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[K]result[V]{}
	}
	m.known[key] = r
}
