package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/net/netutil"
)

// The bounds of a server. A connection that says nothing ends after the time for a
// header, between requests after idle, and within a body after silence. A whole request
// has slack, and a second for each KiB that it moves: one byte now and then is not enough.
const (
	maxConnections = 256
	maxHeader      = 64 << 10
	headerTime     = 10 * time.Second
	idle           = 2 * time.Minute
	silence        = time.Minute
	slack          = 10 * time.Minute
	slowest        = 1 << 10 // bytes a second
)

// Serve answers at a listener until ctx ends. A handler comes from [Policy.Protect]. A
// failure of the server goes to the logger; Serve returns one of the listener.
func Serve(ctx context.Context, l net.Listener, h http.Handler, logger *log.Logger) error {
	server := &http.Server{
		Handler: h, ErrorLog: logger,
		ReadHeaderTimeout: headerTime, IdleTimeout: idle, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(netutil.LimitListener(l, maxConnections)) }()
	select {
	case err := <-ended:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
		err := server.Close()
		if cause := <-ended; !errors.Is(cause, http.ErrServerClosed) {
			err = errors.Join(err, cause)
		}
		return err
	}
}

// A Policy is what a server demands of requests before its handler sees them.
type Policy struct {
	Hosts  []string // beside the loopback names and the server's own addresses; from [ParseHosts]
	Flag   string   // that adds to them: refusals name it
	Log    *log.Logger
	Refuse func(w http.ResponseWriter, r *http.Request, e *Error) // nil: as plain text
}

// Protect returns a handler that answers requests to the server's own hosts alone, gives
// bodies a deadline that moves as they do, and makes a 500 of a panic.
func (p Policy) Protect(h http.Handler) http.Handler {
	if p.Refuse == nil {
		p.Refuse = func(w http.ResponseWriter, _ *http.Request, e *Error) { http.Error(w, e.Message, e.Status) }
	}
	if p.Log == nil {
		p.Log = log.New(io.Discard, "", 0)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := newMover(w, r)
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler { //nolint:errorlint // net/http compares it in the same way
				p.Log.Printf("panic: %v\n%s", cause, debug.Stack())
			}
			if m.wrote || cause == http.ErrAbortHandler { //nolint:errorlint // as above
				panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
			}
			p.Refuse(m, r, answerTo(errors.New("panic")))
		}()
		m.Header().Set("X-Content-Type-Options", "nosniff")
		if why := p.verdict(r); why != "" {
			p.Refuse(m, r, refuse(http.StatusForbidden, "DENIED", "%s", why))
			return
		}
		h.ServeHTTP(m, r)
	})
}

// A mover moves the deadlines of a connection as the bodies move.
type mover struct {
	http.ResponseWriter
	control *http.ResponseController
	began   time.Time
	read    int64
	written int64
	wrote   bool // the header has gone
}

func newMover(w http.ResponseWriter, r *http.Request) *mover {
	m := &mover{ResponseWriter: w, control: http.NewResponseController(w), began: time.Now()}
	if r.Body != nil && r.Body != http.NoBody {
		m.setRead()
		r.Body = &movingBody{r.Body, m}
	}
	return m
}

func (m *mover) deadline(moved int64) time.Time {
	now, last := time.Now().Add(silence), m.began.Add(slack+time.Duration(moved/slowest)*time.Second)
	if last.Before(now) {
		return last
	}
	return now
}

// A connection without deadlines is one of a test.
func (m *mover) setRead()  { _ = m.control.SetReadDeadline(m.deadline(m.read)) }
func (m *mover) setWrite() { _ = m.control.SetWriteDeadline(m.deadline(m.written)) }

func (m *mover) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// begin is called before the answer: the time of the handler does not count.
func (m *mover) begin() {
	if !m.wrote {
		m.wrote, m.began = true, time.Now()
	}
}

func (m *mover) WriteHeader(status int) {
	m.begin()
	m.setWrite()
	m.ResponseWriter.WriteHeader(status)
}

func (m *mover) Write(p []byte) (int, error) {
	m.begin()
	m.setWrite()
	n, err := m.ResponseWriter.Write(p)
	m.written += int64(n)
	return n, err
}

type movingBody struct {
	io.ReadCloser
	mover *mover
}

func (b *movingBody) Read(p []byte) (int, error) {
	b.mover.setRead()
	n, err := b.ReadCloser.Read(p)
	b.mover.read += int64(n)
	if errors.Is(err, io.EOF) { // what the handler does now takes as long as it takes
		_ = b.mover.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
