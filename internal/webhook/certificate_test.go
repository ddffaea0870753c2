package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// An apiServer has one Secret and one webhook configuration, with the rules of the API server
// for versions. .ci/e2e-kube uses a real one.
type apiServer struct {
	mu      sync.Mutex
	secret  *secret
	version int
	bundle  []byte
	writes  int
	pull    []byte // the .dockerconfigjson of the Secret pull of the namespace shop
	refuse  int    // status of all answers, if not 0
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(code int, v any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	status := func(code int) { answer(code, map[string]any{"message": http.StatusText(code)}) }
	if r.Header.Get("Authorization") != "Bearer token" {
		status(http.StatusUnauthorized)
		return
	}
	if s.refuse != 0 {
		status(s.refuse)
		return
	}
	const secrets = "/api/v1/namespaces/ns/secrets"
	switch r.Method + " " + r.URL.Path {
	case "GET " + secrets + "/mabuild-webhook":
		if s.secret == nil {
			status(http.StatusNotFound)
			return
		}
		answer(http.StatusOK, s.secret)
	case "GET /api/v1/namespaces/shop/secrets/pull":
		answer(http.StatusOK, map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "data": map[string][]byte{".dockerconfigjson": s.pull}})
	case "GET /api/v1/namespaces/shop/secrets/none":
		status(http.StatusNotFound)
	case "POST " + secrets, "PUT " + secrets + "/mabuild-webhook":
		var in secret
		if json.NewDecoder(r.Body).Decode(&in) != nil {
			status(http.StatusBadRequest)
			return
		}
		if (r.Method == http.MethodPost) != (s.secret == nil) || s.secret != nil && in.Metadata.ResourceVersion != s.secret.Metadata.ResourceVersion {
			status(http.StatusConflict)
			return
		}
		s.version++
		s.writes++
		in.Metadata.ResourceVersion = strconv.Itoa(s.version)
		s.secret = &in
		answer(http.StatusOK, in)
	case "GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/platforms.mabuild.dev":
		answer(http.StatusOK, map[string]any{"webhooks": []any{map[string]any{"clientConfig": map[string]any{"caBundle": s.bundle}}}})
	case "PATCH /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/platforms.mabuild.dev":
		var patch []struct{ Value []byte }
		if json.NewDecoder(r.Body).Decode(&patch) != nil || len(patch) != 1 {
			status(http.StatusBadRequest)
			return
		}
		s.bundle = patch[0].Value
		answer(http.StatusOK, map[string]any{})
	default:
		status(http.StatusForbidden)
	}
}

func keeper(t *testing.T, s *apiServer, now *time.Time) *Keeper {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return &Keeper{
		API: &API{URL: server.URL, Client: server.Client(), Token: func() (string, error) { return "token", nil }}, Namespace: "ns",
		Secret: ServiceName, Configuration: ConfigurationName, Names: []string{"mabuild-webhook.ns.svc"}, Now: func() time.Time { return *now }, Log: slog.New(slog.DiscardHandler),
	}
}

// trusted checks that a client which trusts the bundle of the configuration accepts the
// certificate of k.
func trusted(t *testing.T, s *apiServer, k *Keeper, now time.Time) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.bundle) {
		t.Fatal("the configuration has no authority")
	}
	c, err := k.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "mabuild-webhook.ns.svc", CurrentTime: now}); err != nil {
		t.Error(err)
	}
}

func TestCertificate(t *testing.T) {
	now, s := time.Now(), &apiServer{}
	k := keeper(t, s, &now)
	if k.Ready() {
		t.Error("ready without a certificate")
	}
	ensure := func(wantWrites int) {
		t.Helper()
		if err := k.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.writes != wantWrites {
			t.Errorf("%d writes of the Secret, want %d", s.writes, wantWrites)
		}
		trusted(t, s, k, now)
	}
	ensure(1)
	ensure(1)
	now = now.Add(leafLife/2 + time.Hour)
	ensure(1)
	now = now.Add(leafLife / 4) // three quarters: renewed
	ensure(2)
	if !k.Ready() {
		t.Error("not ready")
	}
	now = now.Add(2 * leafLife) // the clock jumps past its end
	if k.Ready() {
		t.Error("ready with a certificate that has ended")
	}
	ensure(3)
	now = now.Add(-4 * leafLife) // and back: the certificate is not valid yet
	ensure(4)
	// The authority is renewed, and the old one stays trusted until all replicas have a new
	// certificate.
	old, err := k.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(authorityLife * 3 / 4)
	ensure(5)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.bundle)
	if _, err := old.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: old.Leaf.NotBefore.Add(time.Hour)}); err != nil {
		t.Error(err)
	}
	// Damage is repaired.
	s.secret.Data["tls.crt"] = []byte("damaged")
	ensure(6)
	s.bundle = nil
	ensure(6)
	s.refuse = http.StatusForbidden
	if err := k.Ensure(t.Context()); err == nil {
		t.Error("no error without rights")
	}
	if _, err := k.Certificate(nil); err != nil {
		t.Error("the certificate is lost: ", err)
	}
}

// Replicas that start at the same time agree on one certificate authority.
func TestReplicas(t *testing.T) {
	now, s := time.Now(), &apiServer{}
	keepers := make([]*Keeper, 5)
	for i := range keepers {
		keepers[i] = keeper(t, s, &now)
	}
	var wg sync.WaitGroup
	for _, k := range keepers {
		wg.Go(func() {
			if err := k.Ensure(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.writes != 1 {
		t.Errorf("%d writes", s.writes)
	}
	for _, k := range keepers {
		trusted(t, s, k, now)
	}
	if _, err := tls.X509KeyPair(s.secret.Data["tls.crt"], s.secret.Data["tls.key"]); err != nil {
		t.Error(err)
	}
}
