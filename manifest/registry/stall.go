package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A connection must move enough bytes in patience of waiting for it: 1 KiB/s.
// What it takes to open one and to answer counts as waiting too.
const (
	patience = 60 * time.Second
	enough   = 60 << 10
)

// commitRate is the slowest a registry may be at hashing and storing what it was
// sent, in bytes a second; an answer to an upload may take that much longer.
const commitRate = 10 << 20

var errSilent = errors.New("no progress for 60 s")

// A stallTimer ends a request that waits too long for the other side. Time that we
// ourselves spend between two reads does not count.
type stallTimer struct {
	outer  context.Context
	cancel context.CancelCauseFunc
	most   time.Duration // of waiting

	mu      sync.Mutex
	timer   *time.Timer
	waiting bool
	since   time.Time
	waited  time.Duration
	moved   int64
}

// newStallTimer returns a context for one request and the watch that may end it. It
// begins waiting.
func newStallTimer(outer context.Context, most time.Duration) (context.Context, *stallTimer) {
	ctx, cancel := context.WithCancelCause(outer)
	w := &stallTimer{outer: outer, cancel: cancel, most: most}
	w.timer = time.AfterFunc(most, func() { cancel(errSilent) })
	w.waiting, w.since = true, time.Now()
	return ctx, w
}

// resume begins to wait for the other side.
func (w *stallTimer) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.since = true, time.Now()
	w.timer.Reset(w.most - w.waited)
}

// pause ends waiting; n bytes moved.
func (w *stallTimer) pause(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	if w.waiting {
		w.waiting = false
		w.waited += time.Since(w.since)
	}
	if w.moved += n; w.moved >= enough {
		w.waited, w.moved = 0, 0
	}
}

// fresh forgets what was waited and allows for extra once.
func (w *stallTimer) fresh(extra time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.waiting, w.waited, w.moved = false, -extra, 0
}

// stop ends the watch and the request.
func (w *stallTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// why turns an error under the watch's context into its cause.
func (w *stallTimer) why(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case w.outer.Err() != nil:
		return stopped(w.outer)
	case errors.Is(context.Cause(ctx), errSilent):
		return errSilent
	}
	return err
}

// A responseBody is an answer's body under a watch. What the exchange holds is let go at
// its end, at an error, by Close, or when the context ends.
type responseBody struct {
	ctx   context.Context
	inner io.ReadCloser
	watch *stallTimer
	end   func() error
	err   error // that ended it; comes again at each read
}

func newResponseBody(ctx context.Context, inner io.ReadCloser, watch *stallTimer, leave func()) *responseBody {
	watch.fresh(0)
	forget := context.AfterFunc(ctx, leave)
	b := &responseBody{ctx: ctx, inner: inner, watch: watch}
	b.end = sync.OnceValue(func() error {
		forget()
		err := inner.Close()
		watch.stop()
		leave()
		return err
	})
	if inner == http.NoBody {
		_ = b.end()
	}
	return b
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.watch.resume()
	n, err := b.inner.Read(p)
	b.watch.pause(int64(n))
	if err != nil {
		err = b.watch.why(b.ctx, err)
		b.err = err
		_ = b.end() // what matters is err
	}
	return n, err
}

func (b *responseBody) Close() error { return b.end() }

// discard reads what little may be left, so that the connection can be used
// again, and closes.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}
