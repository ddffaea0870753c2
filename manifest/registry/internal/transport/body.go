package transport

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A Body is the body of a request. It may be sent several times, after a redirect
// or with another connection, and each time from its start. http.Transport reads it in a
// separate goroutine, which may outlive the request: mu guards what the request reads
// afterwards.
type Body struct {
	Size       int64                         // in bytes; exact
	Open       func() (io.ReadCloser, error) // opens the source from its start
	OnProgress func(sent int64)              // gets the bytes sent in this pass so far; may be nil

	mu     sync.Mutex
	failed error // the error of the source, which is not the registry's
	whole  bool  // the last pass has returned all bytes
}

// reader begins a pass from the start of the body. The watch does not count the time that
// the source takes.
func (p *Body) reader(watch *stallTimer) io.ReadCloser {
	p.mu.Lock()
	p.whole = false
	p.mu.Unlock()
	return &bodyReader{p: p, watch: watch}
}

// failure returns the error of the source, or nil. It separates a failed source from a
// connection that was cut: http.Transport returns both as the error of the request.
func (p *Body) failure() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// SentWhole reports whether the last pass returned all bytes. The registry may then have
// stored the body, even if no answer arrived.
func (p *Body) SentWhole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.whole
}

// A bodyReader is one pass over a requestBody. It opens the source at its first read,
// when the request has its permit. A source may be a download that needs a permit too, so
// a request that waits for its permit must hold none.
type bodyReader struct {
	p     *Body
	watch *stallTimer

	shut  atomic.Bool // Close was called
	mu    sync.Mutex  // held while reading
	inner io.ReadCloser
	sent  int64
	last  int64 // bytes returned by the previous read, which the connection has taken since
}

// Read returns the next bytes of the source. A call means that the connection has taken
// the bytes of the previous one, which is the only sign of progress that an upload has.
// After the last byte the watch allows the registry time to store the body.
func (s *bodyReader) Read(b []byte) (int, error) {
	defer s.drop() // runs after Unlock, since Close may have come during the read
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut.Load() {
		return 0, io.ErrClosedPipe
	}
	s.watch.pause(s.last)
	defer s.watch.resume()
	if s.inner == nil {
		inner, err := s.p.Open()
		if err != nil {
			return 0, s.fail(err)
		}
		s.inner = inner
	}
	n, err := s.inner.Read(b)
	s.last = int64(n)
	s.sent += s.last
	if n > 0 && s.p.OnProgress != nil {
		s.p.OnProgress(s.sent)
	}
	if s.sent == s.p.Size {
		s.p.mu.Lock()
		s.p.whole = true
		s.p.mu.Unlock()
		s.watch.fresh(time.Duration(s.p.Size/commitRate) * time.Second)
	}
	if err != nil && err != io.EOF {
		return n, s.fail(err)
	}
	return n, err
}

// fail records an error of the source.
func (s *bodyReader) fail(err error) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.failed = err
	return err
}

// Close ends the pass. It does not wait for a read that is blocked by a slow source: that
// read closes the source when it returns.
func (s *bodyReader) Close() error {
	s.shut.Store(true)
	s.drop()
	return nil
}

// drop closes the source if the pass is closed and no read is running. Both Close and
// Read call it. One of them gets the lock after shut is set, so the source is closed
// exactly once.
func (s *bodyReader) drop() {
	if !s.shut.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.inner != nil {
		_ = s.inner.Close() // only read
		s.inner = nil
	}
}
