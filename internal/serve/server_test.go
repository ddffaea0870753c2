package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory. Its connections use the time of a synctest bubble.
type pipes struct {
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{queue: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.queue:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// dial returns a connection that waits in the queue until the server accepts it.
func (p *pipes) dial(t *testing.T) net.Conn {
	client, server := net.Pipe()
	go func() {
		select {
		case p.queue <- server:
		case <-p.done:
			_ = server.Close()
		}
	}()
	t.Cleanup(func() { client.Close() })
	return client
}

// serving runs test in a bubble with a server for the handler.
func serving(t *testing.T, h http.Handler, test func(t *testing.T, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, p, Policy{}.Protect(h), log.New(io.Discard, "", 0)) }()
		test(t, p)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// closes waits until the server closes a connection, and returns the time until then.
func closes(c net.Conn) time.Duration {
	began := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(began)
}

func answered(t *testing.T, c net.Conn, status int) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != status {
		t.Errorf("%d, want %d", resp.StatusCode, status)
	}
}

// reader answers after it has read the body.
var reader = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
})

// A client that stops sending loses its connection after a time that depends on what was
// sent.
func TestConnectionsEnd(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	const put = "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
	for name, c := range map[string]struct {
		send  string
		after time.Duration
	}{
		"without a request":    {"", headerTime},
		"within a header":      {"GET / HTTP/1.1\r\nHost:", headerTime},
		"between two requests": {get, idle},
		"within a body":        {put, silence},
	} {
		t.Run(name, func(t *testing.T) {
			serving(t, reader, func(t *testing.T, p *pipes) {
				conn := p.dial(t)
				go io.WriteString(conn, c.send)
				if took := closes(conn); took < c.after || took > c.after+5*time.Second {
					t.Errorf("closed after %s, want %s", took, c.after)
				}
			})
		})
	}
}

// A slow body that keeps arriving is accepted. One byte now and then does not keep a
// connection open forever.
func TestSlowBodies(t *testing.T) {
	serving(t, reader, func(t *testing.T, p *pipes) {
		conn, sent := p.dial(t), make(chan struct{})
		go func() {
			defer close(sent)
			fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", 30*64<<10)
			for range 30 {
				conn.Write(make([]byte, 64<<10))
				time.Sleep(50 * time.Second)
			}
		}()
		began := time.Now()
		answered(t, conn, http.StatusNoContent)
		if took := time.Since(began); took < 20*time.Minute {
			t.Errorf("sent within %s", took)
		}
		<-sent
	})
	serving(t, reader, func(t *testing.T, p *pipes) {
		conn, sent := p.dial(t), make(chan struct{})
		go func() {
			defer close(sent)
			io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(50 * time.Second)
			}
		}()
		if took := closes(conn); took < slack || took > slack+2*time.Minute {
			t.Errorf("closed after %s", took)
		}
		<-sent
	})
}

// A client that does not read its response loses the connection. A slow reader does not.
func TestSlowReaders(t *testing.T) {
	const size = 40 * 64 << 10
	writer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
	chunks := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 40 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	serving(t, writer, func(t *testing.T, p *pipes) {
		conn := p.dial(t)
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		time.Sleep(silence + time.Second)
		if n, _ := io.Copy(io.Discard, conn); n >= size {
			t.Error("the response was kept for a client that did not read it")
		}
	})
	serving(t, chunks, func(t *testing.T, p *pipes) {
		conn := p.dial(t)
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		read := 0
		for buffer := make([]byte, 64<<10); read < size; time.Sleep(10 * time.Second) {
			n, err := conn.Read(buffer)
			if read += n; err != nil {
				t.Fatalf("after %d bytes: %v", read, err)
			}
		}
	})
}

// A handler may work for a long time after it has read the body.
func TestLongWork(t *testing.T) {
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = r.Body.Read(make([]byte, 1)) // at the end of the work
		select {
		case <-time.After(time.Hour):
		case <-r.Context().Done():
			t.Error("the context of the request ended")
		}
		w.WriteHeader(http.StatusCreated)
	})
	serving(t, work, func(t *testing.T, p *pipes) {
		conn := p.dial(t)
		go io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
		answered(t, conn, http.StatusCreated)
	})
}

// The deadline of one response does not apply to later requests on the connection.
func TestConnectionsAreUsedAgain(t *testing.T) {
	serving(t, reader, func(t *testing.T, p *pipes) {
		conn := p.dial(t)
		go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		answered(t, conn, http.StatusNoContent)
		time.Sleep(silence + silence/2)
		go io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
		answered(t, conn, http.StatusContinue)
		go io.WriteString(conn, "x")
		answered(t, conn, http.StatusNoContent)
	})
}

// Silent connections that reach the limit are closed after a while, so others are accepted.
func TestConnectionsAreBounded(t *testing.T) {
	serving(t, reader, func(t *testing.T, p *pipes) {
		for range maxConnections {
			p.dial(t)
			synctest.Wait()
		}
		conn := p.dial(t)
		sent := make(chan struct{})
		go func() {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			close(sent)
		}()
		time.Sleep(headerTime - time.Second)
		select {
		case <-sent:
			t.Error("one connection too many was accepted")
		default:
		}
		began := time.Now()
		answered(t, conn, http.StatusNoContent)
		if took := time.Since(began); took > headerTime {
			t.Errorf("accepted after %s", took)
		}
	})
}

func TestLargeHeadersAreRefused(t *testing.T) {
	serving(t, reader, func(t *testing.T, p *pipes) {
		conn := p.dial(t)
		go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2*maxHeader)+"\r\n\r\n")
		answered(t, conn, http.StatusRequestHeaderFieldsTooLarge)
	})
}

// A panic gives the client a 500 and the log one line.
func TestPanics(t *testing.T) {
	var told bytes.Buffer
	p := Policy{Log: log.New(&told, "", 0)}
	server := httptest.NewUnstartedServer(p.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			_, _ = w.Write(make([]byte, 1<<20))
		}
		panic("the secret cause")
	})))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 500 || strings.Contains(string(body), "secret") {
		t.Errorf("%d %s %v", resp.StatusCode, body, err)
	}
	if !strings.Contains(told.String(), "panic: the secret cause") {
		t.Error(told.String())
	}
	late, err := http.Get(server.URL + "/late")
	if err != nil {
		t.Fatal(err)
	}
	defer late.Body.Close()
	if _, err := io.ReadAll(late.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a partial response ends with %v", err)
	}
}

// A listener that fails ends the server with an error.
func TestListenerFails(t *testing.T) {
	p := newPipes()
	p.Close()
	if err := Serve(t.Context(), p, reader, nil); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
