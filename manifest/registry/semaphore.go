package registry

import (
	"context"
	"sync"
)

// A semaphore bounds how much goes on at once. Who waits at it holds nothing.
type semaphore chan struct{}

func newSemaphore(size int) semaphore { return make(semaphore, size) }

// acquire waits for a permit. leave gives it back; it may be called more than once.
func (g semaphore) acquire(ctx context.Context) (leave func(), err error) {
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
