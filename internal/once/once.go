// Package once lets concurrent callers share work: a [Flight] runs equal work once at a
// time, a [Memo] also remembers its results.
package once

import (
	"context"
	"errors"
	"sync"
)

// A Flight runs work once at a time for each key. The zero value is ready. It must not
// be copied after its first use.
type Flight[K comparable, V any] struct {
	mu      sync.Mutex
	running map[K]*result[V]
}

// A result is what work returned, after done is closed.
type result[V any] struct {
	done      chan struct{}
	value     V
	err       error
	abandoned bool // err comes with the end of the caller's own context
}

// Do runs work, or waits for the run of another caller with the same key and shares its
// result. If that run failed because its caller's ctx ended, a caller whose ctx has not
// ended runs work itself. A caller whose ctx ends while it waits gets the cause of ctx.
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

// lead runs work for all callers that wait. f.mu is held.
func (f *Flight[K, V]) lead(ctx context.Context, key K, work func() (V, error)) (V, error) {
	mine := &result[V]{done: make(chan struct{}), err: errors.New("work did not return")} // it panicked
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

// A Memo is a [Flight] that remembers what work returned. The zero value is ready. It must
// not be copied after its first use.
type Memo[K comparable, V any] struct {
	flight Flight[K, V]
	mu     sync.Mutex
	known  map[K]result[V]
}

// Do returns the remembered result for key, or runs work as [Flight.Do] does and remembers
// its value or error. An error that comes with the end of the caller's ctx is forgotten.
func (m *Memo[K, V]) Do(ctx context.Context, key K, work func() (V, error)) (V, error) {
	return m.do(ctx, key, work, func(err error) bool { return err == nil || ctx.Err() == nil })
}

// Ensure is Do, but it forgets every error: work runs again until it succeeds once.
func (m *Memo[K, V]) Ensure(ctx context.Context, key K, work func() (V, error)) (V, error) {
	return m.do(ctx, key, work, func(err error) bool { return err == nil })
}

func (m *Memo[K, V]) do(ctx context.Context, key K, work func() (V, error), keep func(error) bool) (V, error) {
	if r, ok := m.recall(key); ok {
		return r.value, r.err
	}
	return m.flight.Do(ctx, key, func() (V, error) {
		if r, ok := m.recall(key); ok { // another run ended since the first look
			return r.value, r.err
		}
		value, err := work()
		if keep(err) {
			m.remember(key, result[V]{value: value, err: err})
		}
		return value, err
	})
}

// Get returns the value for key, if one is remembered.
func (m *Memo[K, V]) Get(key K) (V, bool) {
	r, ok := m.recall(key)
	return r.value, ok && r.err == nil
}

// Set remembers a value for key.
func (m *Memo[K, V]) Set(key K, value V) { m.remember(key, result[V]{value: value}) }

// Forget removes what is remembered for key.
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
