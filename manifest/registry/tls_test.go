package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// certify makes a self-signed certificate for 127.0.0.1, modified by change, and writes it
// and its key to one file.
func certify(t *testing.T, change func(*x509.Certificate)) (pair tls.Certificate, file string) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	der := must(x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key))(t)
	raw := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(t)})...)
	file = filepath.Join(t.TempDir(), "pair.pem")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return must(tls.X509KeyPair(raw, raw))(t), file
}

// An invalid certificate is refused at once with a hint, and plain http is never tried.
func TestCertificates(t *testing.T) {
	own, ownFile := certify(t, nil)
	expired, expiredFile := certify(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	other, otherFile := certify(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example.com"} })
	_, strangerFile := certify(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) })
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(own.Certificate[0]))(t))
	for name, one := range map[string]struct {
		server   tls.Certificate
		mutual   bool
		ca, cert string
		setting  string // "" means success
	}{
		"right":              {server: own, ca: ownFile},
		"expired":            {server: expired, ca: expiredFile, setting: "SkipVerify"},
		"wrong name":         {server: other, ca: otherFile, setting: "SkipVerify"},
		"unknown authority":  {server: own, setting: "CAFile"},
		"client certificate": {server: own, ca: ownFile, mutual: true, cert: ownFile},
		"client has none":    {server: own, ca: ownFile, mutual: true, setting: "ClientCert"},
		"client has another": {server: own, ca: ownFile, mutual: true, cert: strangerFile, setting: "ClientCert"},
	} {
		t.Run(name, func(t *testing.T) {
			var plain atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.TLS == nil {
					plain.Add(1)
				}
				w.WriteHeader(http.StatusNotFound)
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{one.server}}
			if one.mutual {
				server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, pool
			}
			server.StartTLS()
			defer server.Close()
			c := client(t)
			c.CAFile, c.ClientCert = one.ca, one.cert
			_, err := c.Resolve(t.Context(), server.Listener.Addr().String()+"/app:v1")
			var e *registry.Error
			switch {
			case one.setting == "" && !errors.Is(err, manifest.ErrNotFound):
				t.Errorf("got %v", err)
			case one.setting != "" && (!errors.As(err, &e) || settingOf(err) != one.setting || e.Attempts != 1 || errors.Is(err, manifest.ErrNotFound)):
				t.Errorf("got %v, setting %q", err, settingOf(err))
			}
			if plain.Load() != 0 {
				t.Error("it was spoken to in plain http")
			}
		})
	}
}

// startProxy starts a proxy that tunnels everything to target, or answers with status. It
// returns its URL and the requested hosts.
func startProxy(t *testing.T, target string, status int) (address string, seen *atomic.Int32) {
	t.Helper()
	seen = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen.Add(1)
		if req.Method != http.MethodConnect || req.Header.Get("Authorization") != "" {
			t.Errorf("the proxy sees %s with %v", req.Method, req.Header)
		}
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		there, err := net.Dial("tcp", target)
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(there, here)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}))
	t.Cleanup(server.Close)
	return server.URL, seen
}

// The proxy of the environment is used. An error of the proxy names it, and there is no
// direct connection.
func TestProxy(t *testing.T) {
	r := regtest.Start(t, regtest.Options{TLS: true, User: "me", Password: "secret"})
	ca := must(r.CA(t.TempDir()))(t)
	dead := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	deadURL := "http://" + dead.Addr().String()
	_ = dead.Close()
	through := func(proxy string) error {
		t.Setenv("HTTPS_PROXY", proxy)
		c := client(t)
		c.Keychain, c.CAFile = login{"me", "secret"}, ca
		return c.Put(t.Context(), "example.com/app:v1", regtest.Image(t, "amd64", 100, 1))
	}
	address, seen := startProxy(t, r.Host, http.StatusOK)
	if err := through(address); err != nil || seen.Load() == 0 {
		t.Errorf("%v, %d requests to the proxy", err, seen.Load())
	}
	for status, tries := range map[int]int{407: 1, 403: 1, 503: 6} {
		address, _ := startProxy(t, r.Host, status)
		err := through(address)
		var e *registry.Error
		if !errors.As(err, &e) || e.Attempts != tries || !strings.Contains(hintOf(err), "HTTPS_PROXY") || errors.Is(err, registry.ErrCredentials) {
			t.Errorf("%d: got %v, hint %q", status, err, hintOf(err))
		}
	}
	var e *registry.Error
	if err := through(deadURL); !errors.As(err, &e) || e.Attempts != 3 || !strings.Contains(hintOf(err), "HTTPS_PROXY") {
		t.Errorf("dead: got %v, hint %q", err, hintOf(err))
	}
	for _, req := range r.Requests() {
		if req.Host != "example.com" {
			t.Errorf("asked for %s", req.Host)
		}
	}
}

// A name that does not exist is tried three times, and the hint says what to look at.
func TestNoSuchHost(t *testing.T) {
	_, err := client(t).Resolve(t.Context(), "registry.invalid/app:v1")
	var e *registry.Error
	if !errors.As(err, &e) || e.Attempts > 6 || errors.Is(err, manifest.ErrNotFound) || errors.Is(err, registry.ErrCredentials) {
		t.Errorf("got %v", err)
	}
}
