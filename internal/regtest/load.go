package regtest

import (
	"net"
	"net/http"
	"time"
)

// connState counts connections.
func (r *Registry) connState(_ net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateNew:
		r.conns++
		r.most = max(r.most, r.conns)
	case http.StateClosed, http.StateHijacked:
		r.conns--
	}
}

// MostConnections returns the highest number of open connections.
func (r *Registry) MostConnections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// spill reports whether a request exceeds the rate. The bucket holds the requests of one
// second.
func (r *Registry) spill() bool {
	if r.options.Rate == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, rate := time.Now(), float64(r.options.Rate)
	if r.filled.IsZero() {
		r.bucket = rate
	} else {
		r.bucket = min(rate, r.bucket+rate*now.Sub(r.filled).Seconds())
	}
	r.filled = now
	if r.bucket < 1 {
		return true
	}
	r.bucket--
	return false
}
