package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// flights lets the same work run once at a time, whoever asks for it.
type flights[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*flight[V]
}

type flight[V any] struct {
	landed chan struct{}
	value  V
	err    error
}

// do runs work, or waits for the run of another caller and shares its result.
// When the other's context ended, the caller that still lives runs work itself.
func (f *flights[K, V]) do(ctx context.Context, key K, work func() (V, error)) (V, error) {
	for {
		f.mu.Lock()
		other, flying := f.m[key]
		if !flying {
			return f.lead(key, work)
		}
		f.mu.Unlock()
		select {
		case <-other.landed:
		case <-ctx.Done():
			var none V
			return none, stopped(ctx)
		}
		if !ended(other.err) || ctx.Err() != nil {
			return other.value, other.err
		}
	}
}

// lead runs work as the one that others wait for. f.mu is held.
func (f *flights[K, V]) lead(key K, work func() (V, error)) (V, error) {
	mine := &flight[V]{landed: make(chan struct{}), err: errors.New("work did not return")}
	if f.m == nil {
		f.m = map[K]*flight[V]{}
	}
	f.m[key] = mine
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.m, key)
		f.mu.Unlock()
		close(mine.landed)
	}()
	mine.value, mine.err = work()
	return mine.value, mine.err
}

// ended reports whether err came of a context that ended.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// stopped returns why ctx ended, as a context's error with its cause. The cause
// may be what another request of the same work ended with; that is not repeated.
func stopped(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(err, cause) || asError(cause) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
