package registry

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A requestBody is the body of a request, which may be sent more than once.
type requestBody struct {
	size       int64
	open       func() (io.ReadCloser, error)
	onProgress func(sent int64) // told how far this sending has got; may be nil

	mu     sync.Mutex
	failed error // what open or a read said; the registry is not to blame
	whole  bool  // the last sending got to the end
}

// reader begins to send from the start.
func (p *requestBody) reader(watch *stallTimer) io.ReadCloser {
	p.mu.Lock()
	p.whole = false
	p.mu.Unlock()
	return &bodyReader{p: p, watch: watch}
}

// failure returns why the body could not be read.
func (p *requestBody) failure() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// sentWhole reports whether all bytes of the last sending were handed over.
func (p *requestBody) sentWhole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.whole
}

// A bodyReader is one pass over a request body, opened at its first read: whoever opens
// it holds a permit, so that those who wait for one hold nothing.
type bodyReader struct {
	p     *requestBody
	watch *stallTimer

	shut  atomic.Bool
	mu    sync.Mutex // held while reading
	inner io.ReadCloser
	sent  int64
	last  int64 // what the read before returned: the network has taken it
}

func (s *bodyReader) Read(b []byte) (int, error) {
	defer s.drop() // after Unlock
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut.Load() {
		return 0, io.ErrClosedPipe
	}
	s.watch.pause(s.last)
	defer s.watch.resume()
	if s.inner == nil {
		inner, err := s.p.open()
		if err != nil {
			return 0, s.fail(err)
		}
		s.inner = inner
	}
	n, err := s.inner.Read(b)
	s.last = int64(n)
	s.sent += s.last
	if n > 0 && s.p.onProgress != nil {
		s.p.onProgress(s.sent)
	}
	if s.sent == s.p.size {
		s.p.mu.Lock()
		s.p.whole = true
		s.p.mu.Unlock()
		s.watch.fresh(time.Duration(s.p.size/commitRate) * time.Second)
	}
	if err != nil && err != io.EOF {
		return n, s.fail(err)
	}
	return n, err
}

func (s *bodyReader) fail(err error) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.failed = err
	return err
}

// Close ends the pass. It does not wait for a read that waits for a slow source:
// that read closes it then.
func (s *bodyReader) Close() error {
	s.shut.Store(true)
	s.drop()
	return nil
}

// drop closes what is read from, once nobody wants it and nobody reads it.
func (s *bodyReader) drop() {
	if !s.shut.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.inner != nil {
		_ = s.inner.Close() // it was only read
		s.inner = nil
	}
}
