package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// trickle gives n bytes at a time, gap apart.
type trickle struct {
	gap  time.Duration
	n    int
	left int
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(r.gap)
	n := min(r.n, len(p), r.left)
	r.left -= n
	return n, nil
}

// pipe reads from a trickle until the context ends, as a connection does.
type pipe struct {
	ctx context.Context
	in  *trickle
}

func (p *pipe) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := p.in.Read(b)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	}
}

func (p *pipe) Close() error { return nil }

// Silence and less than 1 KiB/s end an answer after a minute; a slow reader on our
// side does not.
func TestWatch(t *testing.T) {
	for name, one := range map[string]struct {
		in     trickle
		pause  time.Duration // between our reads
		silent bool
	}{
		"quick":       {in: trickle{time.Millisecond, 1 << 10, 1 << 20}},
		"slow enough": {in: trickle{time.Second, 2 << 10, 1 << 20}},
		"too slow":    {in: trickle{time.Second, 1, 1 << 20}, silent: true},
		"stalled":     {in: trickle{time.Hour, 1 << 20, 1 << 20}, silent: true},
		"we are slow": {in: trickle{time.Millisecond, 64, 64 * 100}, pause: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, w := newStallTimer(t.Context(), patience)
				start := time.Now()
				var freed atomic.Bool
				b := newResponseBody(ctx, &pipe{ctx, &one.in}, w, func() { freed.Store(true) })
				buf := make([]byte, 4<<10)
				var err error
				for err == nil {
					_, err = b.Read(buf)
					time.Sleep(one.pause)
				}
				if errors.Is(err, errSilent) != one.silent || !one.silent && !errors.Is(err, io.EOF) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); one.silent && took != patience {
					t.Errorf("took %v", took)
				}
				if _, again := b.Read(buf); !errors.Is(again, err) || !freed.Load() {
					t.Errorf("then %v, freed %t", again, freed.Load())
				}
				time.Sleep(2 * time.Hour) // what reads the trickle must end
			})
		})
	}
}

// A permit comes back at the end of the context, also when nobody closes.
func TestPermitComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewSemaphore(1)
		outer, cancel := context.WithCancel(t.Context())
		leave, err := g.Acquire(outer)
		if err != nil {
			t.Fatal(err)
		}
		ctx, w := newStallTimer(outer, patience)
		_ = newResponseBody(ctx, io.NopCloser(strings.NewReader("x")), w, leave)
		cancel()
		synctest.Wait()
		if leave, err = g.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		leave()
		leave()
		if len(g) != 0 {
			t.Error("a permit is lost")
		}
	})
}

// Nobody sends inside a pause, and all that wait share it.
func TestPauseIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{})
		h := w.Registry("registry.example.com")
		start := time.Now()
		var sent atomic.Int32
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				r := w.Retries(h)
				told := &Error{Status: http.StatusTooManyRequests, throttled: true, wait: 20 * time.Second}
				if err := r.Again(t.Context(), told); err != nil {
					t.Error(err)
				}
				leave, err := h.pause.acquire(t.Context(), Sleep, h.requests)
				if err != nil {
					t.Error(err)
					return
				}
				if time.Since(start) < 20*time.Second {
					t.Error("sent inside the pause")
				}
				sent.Add(1)
				leave()
			})
		}
		time.Sleep(time.Second)
		if leave, err := h.pause.acquire(t.Context(), Sleep, h.requests); err != nil || time.Since(start) < 20*time.Second {
			t.Error("sent inside the pause", err)
		} else {
			leave()
		}
		all.Wait()
		if took := time.Since(start); took > 21*time.Second || sent.Load() != 10 {
			t.Errorf("%d sent after %v", sent.Load(), took)
		}
	})
}

// Requests begin at the pace that was set, two at once at most, also after a pause;
// who gives up does not hold the others.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{Hosts: map[string]Host{"registry.example.com": {PerSecond: 4, MaxRequests: 3}}})
		h := w.Registry("registry.example.com")
		if cap(h.requests) != 3 || cap(h.contents) != 3 || cap(w.Registry("other.example.com").requests) != defaultPerHost {
			t.Error("MaxRequests does not hold, or for others")
		}
		begin := func() (begun []time.Duration) {
			var all sync.WaitGroup
			var mu sync.Mutex
			start := time.Now()
			for range 10 {
				all.Go(func() {
					leave, err := h.pause.acquire(t.Context(), Sleep, h.requests)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					begun = append(begun, time.Since(start))
					leave()
				})
			}
			all.Wait()
			return begun
		}
		for i, at := range begin() {
			if want := time.Duration(max(0, i-1)) * 250 * time.Millisecond; at != want {
				t.Errorf("request %d began after %v, want %v", i, at, want)
			}
		}
		h.pause.extend(time.Now().Add(time.Minute))
		for i, at := range begin() {
			if want := time.Minute + time.Duration(max(0, i-1))*250*time.Millisecond; at != want {
				t.Errorf("request %d began after %v, want %v", i, at, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.pause.acquire(ctx, Sleep, h.requests); !errors.Is(err, context.Canceled) || len(h.requests) != 0 {
			t.Errorf("got %v", err)
		}
	})
}

// A request is tried six times in less than a minute; a run waits ten minutes for
// a host and not longer.
func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{})
		h := w.Registry("registry.example.com")
		failed := &Error{Status: http.StatusServiceUnavailable, wait: unsaid}
		r, start, tries := w.Retries(h), time.Now(), 1
		for r.Again(t.Context(), failed) == nil {
			tries++
		}
		if took := time.Since(start); tries != maxTries || took < 10*time.Second || took > 30*time.Second {
			t.Errorf("%d tries in %v", tries, took)
		}
		told := &Error{Status: http.StatusServiceUnavailable, wait: 100 * time.Second}
		for range 20 {
			if r := w.Retries(h); r.Again(t.Context(), told) != nil {
				break
			}
		}
		if took := time.Since(start); took > longestRun {
			t.Errorf("waited %v", took)
		}
		if failed.Attempts != 0 || failed.final {
			t.Error("an error that others share was changed")
		}
	})
}

// Sleeping ends with the context.
func TestRetryStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := w.Retries(w.Registry("registry.example.com")).Again(ctx, &Error{Status: 503, wait: time.Minute})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

// Of all that goes to a host where nobody is, the first waits for somebody and the
// others believe it, until there is an answer.
func TestNobodyThere(t *testing.T) {
	var naps int
	to := New(Config{Sleep: func(context.Context, time.Duration) error { naps++; return nil }})
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	address := server.Listener.Addr().String()
	asks := func(want int) {
		t.Helper()
		naps = 0
		if _, err := to.Ask(t.Context(), &Request{Method: http.MethodHead, Registry: to.Registry(address), Path: "app/blobs/x"}); err == nil || naps != want {
			t.Errorf("%d waits, not %d: %v", naps, want, err)
		}
	}
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	asks(maxTriesBrief - 1)
	asks(0)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.Start()
	asks(0) // 404
	server.Close()
	asks(maxTriesBrief - 1)
	asks(0)
}
