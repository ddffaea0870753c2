package crosscompile

import (
	"context"
	"errors"
	"sync"
)

// answers keeps what was found out, by key, and lets each be asked for once at a
// time. A failure is not kept. The zero value is ready.
type answers[V any] struct {
	mu sync.Mutex
	m  map[string]*question[V]
}

// A question is one that was asked.
type question[V any] struct {
	answered  chan struct{}
	value     V
	err       error
	abandoned bool // err is that of the context of who asked
}

// get returns what is known of key, asks, or waits for another who asks already. When
// the other's context ended, one that still lives asks itself.
func (a *answers[V]) get(ctx context.Context, key string, ask func() (V, error)) (V, error) {
	for {
		a.mu.Lock()
		q, asked := a.m[key]
		if !asked {
			return a.ask(ctx, key, ask)
		}
		a.mu.Unlock()
		select {
		case <-q.answered:
		case <-ctx.Done():
			var none V
			return none, context.Cause(ctx)
		}
		if !q.abandoned || ctx.Err() != nil {
			return q.value, q.err
		}
	}
}

// ask asks as the one that others wait for. a.mu is held.
func (a *answers[V]) ask(ctx context.Context, key string, ask func() (V, error)) (V, error) {
	q := &question[V]{answered: make(chan struct{}), err: errors.New("no answer")}
	if a.m == nil {
		a.m = map[string]*question[V]{}
	}
	a.m[key] = q
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		if q.err != nil && a.m[key] == q {
			delete(a.m, key)
		}
		a.mu.Unlock()
		close(q.answered)
	}()
	q.value, q.err = ask()
	q.abandoned = q.err != nil && ctx.Err() != nil
	return q.value, q.err
}

// forget forgets what is known of key.
func (a *answers[V]) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.m, key)
}
