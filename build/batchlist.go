package build

import (
	"fmt"
	"sync"
)

// batchedListing lets programs of the same modules share the listings of their files.
// Whoever asks while one is taken gets the next, together with all who ask
// meanwhile: a listing always begins after it was asked for.
type batchedListing struct {
	skip []string // what no listing looks at

	mu sync.Mutex
	of map[string]*walked
}

// walked are the listings of one scope.
type walked struct {
	turn chan struct{} // one at a time
	next *walk         // which has not begun
}

// A walk is one listing.
type walk struct {
	once sync.Once
	is   listing
	err  error
}

// list is s.list, shared.
func (w *batchedListing) list(s scope) (listing, error) {
	return w.share(fmt.Sprintf("%q", s), func() (listing, error) { return s.list(w.skip) })
}

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
		at.next = &walk{}
	}
	mine := at.next
	w.mu.Unlock()
	at.turn <- struct{}{}
	defer func() { <-at.turn }()
	mine.once.Do(func() {
		w.mu.Lock()
		at.next = nil // who asks from now on wants what is there then
		w.mu.Unlock()
		mine.is, mine.err = list()
	})
	return mine.is, mine.err
}
