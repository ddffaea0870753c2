package transport

import (
	"context"
	"sync"
)

// A Semaphore bounds how much runs at once. It has as many permits as the capacity of the
// channel.
type Semaphore chan struct{}

// NewSemaphore returns a semaphore with size permits.
func NewSemaphore(size int) Semaphore { return make(Semaphore, size) }

// Acquire waits for a permit until ctx ends. leave gives the permit back and may be
// called more than once.
func (g Semaphore) Acquire(ctx context.Context) (leave func(), err error) {
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
