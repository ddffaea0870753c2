// Package regtest gives tests a registry whose word counts, and which fails as it
// is told to.
//
// The registry is the judge (Docker Distribution, see judge/); before it stands a
// proxy that demands credentials, logs each request and injects [Fault]s. What
// the proxy did not let through the judge never saw.
package regtest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Options say what kind of registry is wanted. The zero value is one without
// credentials, in memory, in plain http on loopback.
type Options struct {
	// Dir keeps the content of the registry; "" keeps it in memory.
	Dir string
	// TLS serves https, with a certificate that [Registry.CA] vouches for.
	TLS bool
	// User and Password are demanded if User is set: as Basic, or of the token
	// server if Bearer is set. TokenLife is how long tokens live, 0 means an hour.
	User, Password string
	Bearer         bool
	TokenLife      time.Duration
	// Realm stands in for the URL of the token server in challenges.
	Realm string
	// Rate bounds the requests a second: what is more is answered 429, with the
	// demand to wait a second. 0 bounds nothing.
	Rate int
	// NoRanges has parts of blobs answered with all of it.
	NoRanges bool
}

// A Registry runs until Close.
type Registry struct {
	// Host is the registry in references: "127.0.0.1:PORT".
	Host string

	options Options
	program string // of the judge
	judge   *url.URL
	server  *httptest.Server
	toJudge *http.Transport
	closed  chan struct{}

	mu       sync.Mutex
	requests []*Request
	faults   []*Fault
	tokens   map[string]issued
	conns    int // open
	most     int // open at once
	bucket   float64
	filled   time.Time
}

// Start is [New] for a test: it fails t when the registry does not start, and
// closes it with t.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// New starts a registry. The judge is the program that MABUILD_JUDGE names, or
// bin/judge in the module's root; that it is not there is an error, never a
// reason to test less.
func New(o Options) (*Registry, error) {
	program, err := findJudge()
	if err != nil {
		return nil, err
	}
	r := &Registry{options: o, closed: make(chan struct{}), tokens: map[string]issued{}, toJudge: &http.Transport{MaxIdleConnsPerHost: 64}}
	address, err := judgeOf(program).open(o.Dir)
	if err != nil {
		return nil, err
	}
	r.program, r.judge = program, &url.URL{Scheme: "http", Host: address}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.server.Config.ConnContext = withConn
	r.server.Config.ConnState = r.connState
	r.server.Config.ErrorLog = quiet
	if o.TLS {
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	r.Host = r.server.Listener.Addr().String()
	return r, nil
}

// CA writes the certificate authority of a registry with TLS to a file of dir.
func (r *Registry) CA(dir string) (string, error) {
	file := filepath.Join(dir, "ca.pem")
	return file, os.WriteFile(file, encodePEM(r.server.Certificate().Raw), 0o600)
}

// Judge returns the address of the registry behind the faults.
func (r *Registry) Judge() string { return r.judge.Host }

// Close ends the registry. Requests in flight are cut. It may be called twice.
func (r *Registry) Close() error {
	if r.closing() {
		return nil
	}
	r.server.CloseClientConnections()
	r.server.Close()
	r.toJudge.CloseIdleConnections()
	return judgeOf(r.program).close(r.judge.Host)
}

// closing begins to close, and reports whether that was begun before.
func (r *Registry) closing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
		return true
	default:
		close(r.closed)
		return false
	}
}
