package build

import (
	"fmt"
	"sync"
)

// A batchedListing shares the listings of source files among programs of the same
// modules. A caller must see every change that was made before its call. So it cannot
// share a listing that has begun already: it waits for that one to end, and then shares
// the next listing with all callers that came meanwhile.
type batchedListing struct {
	skip []string // paths that no listing reads; set before the first call

	mu sync.Mutex
	of map[string]*walked // by scope
}

// A walked has the listings of one scope. batchedListing.mu guards next.
type walked struct {
	turn chan struct{}           // held by the listing that runs
	next func() (listing, error) // runs the listing that has not begun yet, once
}

// list returns a listing of s that began after this call.
func (w *batchedListing) list(s scope) (listing, error) {
	return w.share(fmt.Sprintf("%q", s), func() (listing, error) { return s.list(w.skip) })
}

// share runs list, or waits for the run of another caller with the same key. The run
// begins after this call: the first caller that gets its turn removes next before it runs
// list, so later callers get another one.
func (w *batchedListing) share(key string, list func() (listing, error)) (listing, error) {
	w.mu.Lock()
	if w.of == nil {
		w.of = map[string]*walked{}
	}
	at := w.of[key]
	if at == nil {
		at = &walked{turn: make(chan struct{}, 1)}
		w.of[key] = at
	}
	if at.next == nil {
		at.next = sync.OnceValues(func() (listing, error) {
			w.mu.Lock()
			at.next = nil
			w.mu.Unlock()
			return list()
		})
	}
	mine := at.next
	w.mu.Unlock()
	at.turn <- struct{}{}
	defer func() { <-at.turn }()
	return mine()
}
