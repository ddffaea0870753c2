package registry

import (
	"context"
	"sync"
)

// A gate bounds how much goes on at once. Who waits at it holds nothing.
type gate chan struct{}

func newGate(size int) gate { return make(gate, size) }

// enter waits for a permit. leave gives it back; it may be called more than once.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	if ctx.Err() != nil {
		return nil, stopped(ctx)
	}
	select {
	case g <- struct{}{}:
		return sync.OnceFunc(func() { <-g }), nil
	case <-ctx.Done():
		return nil, stopped(ctx)
	}
}
