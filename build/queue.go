package build

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// unknownLength is expected of what was never compiled: more than of anything
// that was.
const unknownLength = time.Duration(math.MaxInt64)

// A queue hands out a number of permits, first to those who will hold one
// longest: then all end at about the same time, and no core waits for a last one.
type queue struct {
	size int

	mu      sync.Mutex
	free    int
	waiting []*permit // the longest first
}

// A permit is a place in a queue.
type permit struct {
	queue  *queue
	length time.Duration
	turn   chan struct{} // closed when the permit is there

	granted, left bool
}

func newQueue(size int) *queue { return &queue{size: size, free: size} }

// reserve gives a permit for each length at once, so that not the first to come
// is served but the longest. Each must be left.
func (q *queue) reserve(lengths ...time.Duration) []*permit {
	q.mu.Lock()
	defer q.mu.Unlock()
	permits := make([]*permit, len(lengths))
	for i, length := range lengths {
		permits[i] = &permit{queue: q, length: length, turn: make(chan struct{})}
	}
	q.waiting = append(q.waiting, permits...)
	slices.SortStableFunc(q.waiting, func(a, b *permit) int { return cmp.Compare(b.length, a.length) })
	q.handOut()
	return permits
}

// handOut gives the free permits away. q.mu is held.
func (q *queue) handOut() {
	for q.free > 0 && len(q.waiting) > 0 {
		t := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.free--
		t.granted = true
		close(t.turn)
	}
}

// atOnce returns how many permits are held, or would be if there were enough
// that want one.
func (q *queue) atOnce() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(q.size, q.size-q.free+len(q.waiting))
}

// wait waits for the permit.
func (t *permit) wait(ctx context.Context) error {
	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release gives the permit back, or the place of one who waits for it no more. It
// may be called more than once.
func (t *permit) release() {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case t.left:
	case t.granted:
		q.free++
		q.handOut()
	default:
		q.waiting = slices.DeleteFunc(q.waiting, func(o *permit) bool { return o == t })
	}
	t.left = true
}
