// Package regtest gives tests a registry that decides what is valid and injects the faults
// that a test asks for.
//
// The registry is the judge (Docker Distribution, see judge/). In front of it, a proxy
// requires credentials, logs each request and injects [Fault]s. The judge sees only the
// requests that the proxy forwards.
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

// Options configure a registry. The zero value is a registry without credentials, in
// memory, with plain http on loopback.
type Options struct {
	// Dir keeps the content of the registry; "" keeps it in memory.
	Dir string
	// TLS serves https with a certificate of the authority [Registry.CA].
	TLS bool
	// User and Password are required if User is set: by Basic authentication, or by the
	// token service if Bearer is set. TokenLife is the lifetime of a token; 0 means an
	// hour.
	User, Password string
	Bearer         bool
	TokenLife      time.Duration
	// Realm replaces the URL of the token service in challenges.
	Realm string
	// Rate limits the requests of a second: a request above it gets a 429 with a
	// Retry-After of one second. 0 means no limit.
	Rate int
	// NoRanges answers requests for a part of a blob with the whole blob.
	NoRanges bool
}

// A Registry runs until Close.
type Registry struct {
	// Host is the registry as it is written in references: "127.0.0.1:PORT".
	Host string

	options Options
	program string // the path of the judge
	judge   *url.URL
	server  *httptest.Server
	toJudge *http.Transport
	closed  chan struct{}

	mu       sync.Mutex
	requests []*Request
	faults   []*Fault
	tokens   map[string]issued
	conns    int // open now
	most     int // highest number of open ones
	bucket   float64
	filled   time.Time
}

// Start is [New] for a test: it fails t if the registry does not start, and closes it at
// the end of t.
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

// New starts a registry. The judge is the program in MABUILD_JUDGE, or bin/judge in the
// module's root. A missing program is an error; tests are never skipped.
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

// CA writes the certificate authority of a registry with TLS to a file in dir.
func (r *Registry) CA(dir string) (string, error) {
	file := filepath.Join(dir, "ca.pem")
	return file, os.WriteFile(file, encodePEM(r.server.Certificate().Raw), 0o600)
}

// Judge returns the address of the registry behind the proxy.
func (r *Registry) Judge() string { return r.judge.Host }

// Close stops the registry and closes its connections. It may be called twice.
func (r *Registry) Close() error {
	if r.closing() {
		return nil
	}
	r.server.CloseClientConnections()
	r.server.Close()
	r.toJudge.CloseIdleConnections()
	return judgeOf(r.program).close(r.judge.Host)
}

// closing marks the registry as closed and reports whether it already was.
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
