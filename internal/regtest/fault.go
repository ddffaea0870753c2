package regtest

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"time"
)

// A Phase is the moment of a request at which a fault strikes.
type Phase int

// The phases, in the order in which a request goes through them.
const (
	Before Phase = iota // the judge never sees the request
	Up                  // After bytes of the request's body went to the judge
	Answer              // the judge has answered; the response is lost or replaced
	Down                // After bytes of the response's body went to the client
)

// An Action is what a fault does. The zero Action answers with Fault.Status.
type Action int

// The actions.
const (
	Respond Action = iota // answer with Status, Header and Body (not when Down)
	Close                 // close the connection normally (FIN)
	Abort                 // reset the connection (RST)
	Stall                 // send nothing more until the client gives up
	Slow                  // continue at Rate bytes a second (Down only)
	Flip                  // change one bit after After bytes (Down only), then continue
)

// A Fault strikes the requests it matches.
type Fault struct {
	Method string     // "" matches every method
	Path   string     // regular expression on the path, with query; "" matches all
	Nth    int        // strikes from the nth matching request on; 0 means the first
	Times  int        // how often; 0 means once, negative always
	Chance *rand.Rand // strikes one matching request in OneIn by it; nil strikes each
	OneIn  int        // 0 means a hundred

	Phase  Phase
	After  int64
	Action Action

	Status int
	Header http.Header
	Body   string
	Rate   int64

	pattern *regexp.Regexp
	seen    int
	struck  int
}

// Inject adds faults. If several match a request, the first strikes. Inject panics if Path
// is not a regular expression.
func (r *Registry) Inject(faults ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range faults {
		f.pattern = regexp.MustCompile(f.Path)
		if f.Times == 0 {
			f.Times = 1
		}
		f.Nth = max(f.Nth, 1)
		r.faults = append(r.faults, &f)
	}
}

// strike returns the fault for req, or nil.
func (r *Registry) strike(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found *Fault
	for _, f := range r.faults {
		if f.Method != "" && f.Method != req.Method || !f.pattern.MatchString(req.URL.RequestURI()) {
			continue
		}
		f.seen++
		if f.Chance != nil && f.Chance.IntN(cmp.Or(f.OneIn, 100)) != 0 {
			continue
		}
		if found != nil || f.seen < f.Nth || f.Times >= 0 && f.struck >= f.Times {
			continue
		}
		f.struck++
		found = f
	}
	return found
}

// act performs f in place of the rest of the request.
func (r *Registry) act(w http.ResponseWriter, req *http.Request, f *Fault) (status int) {
	switch f.Action {
	case Close, Abort:
		hangUp(req, f.Action == Abort)
	case Stall:
		select {
		case <-req.Context().Done():
		case <-r.closed:
		}
		hangUp(req, false)
	}
	for key, values := range f.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, f.Body)
	return f.Status
}

type connKey struct{}

// withConn stores the connection in the context of its requests.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// hangUp closes the connection of req and does not return.
func hangUp(req *http.Request, hard bool) {
	conn, _ := req.Context().Value(connKey{}).(net.Conn)
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if hard {
			_ = tcp.SetLinger(0)
		}
		_ = tcp.Close()
	}
	panic(http.ErrAbortHandler)
}

// pace copies at rate bytes a second.
func pace(w io.Writer, r io.Reader, rate int64, flush func()) error {
	tick := time.Second / time.Duration(max(rate, 1))
	for {
		if _, err := io.CopyN(w, r, 1); err != nil {
			return err
		}
		flush()
		time.Sleep(tick)
	}
}

var quiet = log.New(io.Discard, "", 0)

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
