package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/net/netutil"

	"github.com/mabuild/mabuild/internal/stream"
)

// The bounds of a server. A connection ends if the header takes longer than headerTime,
// if it is unused for idle, or if no byte of a body moves for silence. A whole body has
// slack plus one second for each KiB that has moved, so that a client that sends a byte
// now and then does not hold its connection for ever.
const (
	maxConnections = 256      // further clients wait in the listener's queue
	maxHeader      = 64 << 10 // bytes
	headerTime     = 10 * time.Second
	idle           = 2 * time.Minute
	silence        = time.Minute
	slack          = 10 * time.Minute
	slowest        = 1 << 10 // bytes a second
)

// Serve serves HTTP at a listener until ctx ends. It then closes all connections at once,
// also those with a request in progress, and returns nil unless that fails. It closes l
// in any case. h comes from [Policy.Protect]. Errors of single connections go to the
// logger; Serve returns only errors of the listener.
func Serve(ctx context.Context, l net.Listener, h http.Handler, logger *log.Logger) error {
	// Bodies have no timeout here: [Policy.Protect] sets their deadlines.
	server := &http.Server{
		Handler: h, ErrorLog: logger,
		ReadHeaderTimeout: headerTime, IdleTimeout: idle, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	// The channel has room for one value, so that the goroutine ends even if nothing
	// reads it.
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

// A Policy is what a server requires of requests before its handler sees them.
type Policy struct {
	// Hosts are allowed besides the loopback names and the server's own addresses; they
	// come from [ParseHosts].
	Hosts []string
	// Flag is the flag that adds to Hosts, for the text of a refusal.
	Flag string
	// Log gets the panics of handlers with their stacks; nil discards them.
	Log *log.Logger
	// Requests says that Log also gets one line for each request.
	Requests bool
	// Refuse answers a request that is refused; nil answers with plain text.
	Refuse func(w http.ResponseWriter, r *http.Request, e *Error)
}

// Protect returns a handler that refuses requests by [Policy.verdict], sets deadlines
// that move with the bodies, and answers 500 after a panic in h. If h has begun to answer
// when it panics, the connection is aborted, since the client would take a cut-off body
// for a complete one.
func (p Policy) Protect(h http.Handler) http.Handler {
	if p.Refuse == nil {
		p.Refuse = func(w http.ResponseWriter, _ *http.Request, e *Error) { http.Error(w, e.Message, e.Status) }
	}
	if p.Log == nil {
		p.Log = log.New(io.Discard, "", 0)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The refusal of a request is written through m too, so that it has a deadline.
		m := newMover(w, r)
		if p.Requests {
			defer func() { p.Log.Print(m.line(r)) }()
		}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler { //nolint:errorlint // compared as in net/http
				p.Log.Printf("panic: %v\n%s", cause, debug.Stack())
			}
			if m.wrote || cause == http.ErrAbortHandler { //nolint:errorlint // as above
				panic(http.ErrAbortHandler)
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

// A mover extends the deadlines of a connection as bytes of the bodies move, and keeps
// what the log says of the request. http.Server's own timeouts bound a whole request,
// which is wrong for layers of many gigabytes. A mover belongs to one request and is not
// safe for concurrent use.
type mover struct {
	http.ResponseWriter
	control *http.ResponseController
	began   time.Time
	read    int64
	written int64
	wrote   bool // the response has begun

	// status is the HTTP status, outcome the code and message of an error.
	status  int
	outcome string
}

// newMover wraps w and the body of r.
func newMover(w http.ResponseWriter, r *http.Request) *mover {
	// Without a call of WriteHeader the status is 200, as in net/http.
	m := &mover{ResponseWriter: w, control: http.NewResponseController(w), began: time.Now(), status: http.StatusOK}
	if r.Body != nil && r.Body != http.NoBody {
		m.setRead()
		r.Body = m.body(r.Body)
	}
	return m
}

// line returns the line of the log for the request. The path is quoted as ASCII, since a
// client chooses it and could otherwise write control characters to a terminal.
func (m *mover) line(r *http.Request) string {
	quoted := strconv.QuoteToASCII(r.RequestURI)
	return fmt.Sprintf("%s %s %d%s", r.Method, quoted[1:len(quoted)-1], m.status, m.outcome)
}

// deadline returns the deadline after moved bytes: silence from now, but not later than
// the whole body may take.
func (m *mover) deadline(moved int64) time.Time {
	now, last := time.Now().Add(silence), m.began.Add(slack+time.Duration(moved/slowest)*time.Second)
	if last.Before(now) {
		return last
	}
	return now
}

// A connection without deadlines, as in a test, is not an error.
func (m *mover) setRead()  { _ = m.control.SetReadDeadline(m.deadline(m.read)) }
func (m *mover) setWrite() { _ = m.control.SetWriteDeadline(m.deadline(m.written)) }

// Unwrap lets http.ResponseController reach the connection.
func (m *mover) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// begin restarts the time when the response begins, so that the time that the handler
// took before does not count.
func (m *mover) begin() {
	if !m.wrote {
		m.wrote, m.began = true, time.Now()
	}
}

// WriteHeader begins the response with a new write deadline.
func (m *mover) WriteHeader(status int) {
	m.begin()
	m.setWrite()
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

// Write writes to the body with a new deadline. The deadline of a large response thus
// depends on what the client has read so far, not on its size.
func (m *mover) Write(p []byte) (int, error) {
	m.begin()
	m.setWrite()
	n, err := m.ResponseWriter.Write(p)
	m.written += int64(n)
	return n, err
}

// body returns a request body that extends the read deadline at each read. At its end the
// deadline is removed: the handler's own work has none.
func (m *mover) body(body io.ReadCloser) io.ReadCloser {
	return stream.WithClose(stream.Reader(func(p []byte) (int, error) {
		m.setRead()
		n, err := body.Read(p)
		m.read += int64(n)
		if errors.Is(err, io.EOF) {
			_ = m.control.SetReadDeadline(time.Time{})
		}
		return n, err
	}), body.Close)
}
