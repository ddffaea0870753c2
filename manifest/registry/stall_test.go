package registry_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// impatient returns a client that waits only a moment for a silent registry, instead of a
// minute.
func impatient(t *testing.T) *registry.Client {
	c := client(t)
	registry.SetPatience(c, 250*time.Millisecond)
	return c
}

// If a registry falls silent or very slow, before or within its response, the request is
// cancelled and repeated.
func TestStall(t *testing.T) {
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 200_000, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	pull := func() error {
		content, err := impatient(t).Get(t.Context(), r.Host+"/app:v1")
		if err != nil {
			return err
		}
		if _, err := content.(v1.Image).RawConfigFile(); err != nil {
			return err
		}
		rc, err := must(content.(v1.Image).Layers())(t)[0].Compressed()
		if err != nil {
			return err
		}
		defer rc.Close()
		_, err = io.Copy(io.Discard, rc)
		return err
	}
	for _, fault := range []regtest.Fault{
		{Action: regtest.Stall},
		{Phase: regtest.Answer, Action: regtest.Stall},
		{Phase: regtest.Down, After: 100, Action: regtest.Stall},
		{Phase: regtest.Down, After: 100, Action: regtest.Slow, Rate: 20},
	} {
		for nth := 1; nth <= 3; nth++ {
			r.Reset()
			fault.Method, fault.Nth = "GET", nth
			r.Inject(fault)
			if err := pull(); err != nil {
				t.Errorf("%+v: %v", fault, err)
			}
		}
	}
	for _, kind := range kinds {
		last := 1
		if kind.path == "/blobs/" || kind.method == "POST" { // four requests of each
			last = 4
		}
		for _, phase := range []regtest.Phase{regtest.Before, regtest.Answer} {
			for nth := 1; nth <= last; nth += max(1, last/2) {
				r.Reset()
				next := regtest.RandomIndex(t, 500, 1, "amd64", "arm64")
				r.Inject(regtest.Fault{Method: kind.method, Path: kind.path, Nth: nth, Phase: phase, Action: regtest.Stall})
				put(t, impatient(t), r.Host+"/app:v1", next)
				verifyTag(t, r, "app:v1", next)
				put(t, client(t), r.Host+"/app:v1", next)
			}
		}
	}
	r.Reset()
	r.Inject(regtest.Fault{Method: "PUT", Path: "/uploads/", Phase: regtest.Up, After: 100_000, Action: regtest.Stall})
	big := regtest.Image(t, "amd64", 4<<20, 1)
	c := client(t)
	registry.SetPatience(c, 2*time.Second) // the client sends more, or expects more
	put(t, c, r.Host+"/app:v1", big)
	verifyTag(t, r, "app:v1", big)
}

// A registry that is always silent ends the run with an error that names the request. So
// does one that never ends its TLS handshake.
func TestSilentForever(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { // reads, and says nothing
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
	})
	defer conns.Wait()
	defer listener.Close()
	for name, hosts := range map[string]map[string]registry.Host{
		"probe": nil, "handshake": {"named.example.com": {}},
	} {
		c := client(t)
		c.Hosts = hosts
		registry.SetPatience(c, 50*time.Millisecond)
		start := time.Now()
		_, err := c.Resolve(t.Context(), listener.Addr().String()+"/app:v1")
		var e *registry.Error
		if !errors.As(err, &e) || e.Attempts != 6 || e.Op != http.MethodHead || time.Since(start) > 30*time.Second {
			t.Errorf("%s: got %v after %v", name, err, time.Since(start))
		}
	}
}
