package registry

import (
	"context"
	"sync"
)

// A semaphore bounds how much runs at once. It has as many permits as the capacity of the
// channel.
type semaphore chan struct{}

func newSemaphore(size int) semaphore { return make(semaphore, size) }

// acquire waits for a permit until ctx ends. leave gives the permit back and may be
// called more than once.
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
