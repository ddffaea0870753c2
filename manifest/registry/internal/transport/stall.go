package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A request must move enough bytes in each patience of waiting, about 1 KiB/s. The time
// for connecting and for the answer counts as waiting too.
const (
	patience = 60 * time.Second
	enough   = 60 << 10 // bytes
)

// commitRate is the slowest rate, in bytes per second, at which a registry may hash and
// store what it received. The answer to an upload may take longer by size/commitRate.
const commitRate = 10 << 20

// errSilent is the cause of a request that a watch has ended.
var errSilent = errors.New("no progress for 60 s")

// A stallTimer ends a request that waits too long for the other side. A fixed timeout for a
// whole request would not fit: a layer may take hours on a slow line. A watch counts only
// the time in which a read or write waits for the connection, not the time in which the
// caller or the source of an upload is busy. It is safe for concurrent use, since
// http.Transport reads the request's body in a separate goroutine.
type stallTimer struct {
	outer  context.Context // the caller's
	cancel context.CancelCauseFunc
	most   time.Duration // of waiting without enough bytes

	mu      sync.Mutex
	timer   *time.Timer
	waiting bool          // the timer runs
	since   time.Time     // when waiting began
	waited  time.Duration // before since; negative for an extra allowance
	moved   int64         // bytes since waited was reset
}

// newStallTimer returns a context for one request and the watch that may end it. The watch
// waits from the start. The caller must call stop.
func newStallTimer(outer context.Context, most time.Duration) (context.Context, *stallTimer) {
	ctx, cancel := context.WithCancelCause(outer)
	w := &stallTimer{outer: outer, cancel: cancel, most: most}
	w.timer = time.AfterFunc(most, func() { cancel(errSilent) })
	w.waiting, w.since = true, time.Now()
	return ctx, w
}

// resume begins waiting for the other side.
func (w *stallTimer) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.since = true, time.Now()
	w.timer.Reset(w.most - w.waited)
}

// pause ends waiting. n bytes have moved; enough bytes reset what was waited.
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

// fresh ends waiting, forgets what was waited, and allows extra time for the next wait.
func (w *stallTimer) fresh(extra time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.waiting, w.waited, w.moved = false, -extra, 0
}

// stop ends the watch and the context of the request.
func (w *stallTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// why returns the cause of an error under the watch's context: the end of the caller's
// context, errSilent, or err itself.
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

// A responseBody is the body of an answer under a watch. The permit, the watch and the connection
// are released exactly once: at the end of the body, at an error or by Close. The permit
// is given back also when the context ends, so that a caller that does not call Close
// cannot hold it beyond its run. A body is read by one goroutine; Close may be called by
// another one.
type responseBody struct {
	ctx   context.Context
	inner io.ReadCloser
	watch *stallTimer
	end   func() error
	err   error // the error that ended it, returned by each further read
}

// newResponseBody returns a body that calls leave when it ends. An answer without a body ends at
// once.
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

// Read returns the next bytes. At the end of the body, or after an error, everything is
// released before it returns.
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
		_ = b.end() // err is the error that counts
	}
	return n, err
}

// Close ends the body. It may be called more than once.
func (b *responseBody) Close() error { return b.end() }

// discard reads the rest of a small body, so that the connection can be used again, and
// closes it. After more than maxErrorBody bytes a new connection is cheaper.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}
