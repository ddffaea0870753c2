package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mabuild/mabuild/internal/kube"
)

// The lifetimes of certificates. Each is renewed after two thirds of it.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	clockSkew     = time.Hour        // a certificate is valid so long before it is made
	checkEvery    = 10 * time.Minute // also finds a clock that jumped
)

// An API is the API server of the cluster that the process runs in.
type API struct {
	URL    string
	Client *http.Client
	// Token returns the bearer token. Kubernetes replaces the file of a token each hour.
	Token func() (string, error)
}

// InCluster returns the API server of the cluster, with the service account in dir.
func InCluster(dir string, lookup func(string) string) (*API, error) {
	host, port := lookup("KUBERNETES_SERVICE_HOST"), lookup("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("this is not a pod of a cluster: KUBERNETES_SERVICE_HOST is not set")
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s: no certificate", filepath.Join(dir, "ca.crt"))
	}
	return &API{
		URL:    "https://" + net.JoinHostPort(host, port),
		Client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}},
		Token: func() (string, error) {
			token, err := os.ReadFile(filepath.Join(dir, "token"))
			return strings.TrimSpace(string(token)), err
		},
	}, nil
}

// A statusError is an answer that is not a success.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return e.message }

func hasStatus(err error, code int) bool {
	var s *statusError
	return errors.As(err, &s) && s.code == code
}

// do sends one request. out may be nil.
func (a *API) do(ctx context.Context, method, path, contentType string, body, out any) error {
	var in bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&in).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+path, &in)
	if err != nil {
		return err
	}
	token, err := a.Token()
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType)
	resp, err := a.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		var s struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(answer, &s) // the status says enough
		return &statusError{resp.StatusCode, fmt.Sprintf("%s %s: %s %s", method, path, resp.Status, s.Message)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// PullSecrets returns the credentials in Secrets of a namespace. A Secret that does not exist
// is left out, as the kubelet does.
func (a *API) PullSecrets(ctx context.Context, namespace string, names []string) ([]kube.Login, error) {
	var logins []kube.Login
	for _, name := range names {
		var data json.RawMessage
		path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/secrets/" + url.PathEscape(name)
		if err := a.do(ctx, http.MethodGet, path, "application/json", nil, &data); hasStatus(err, http.StatusNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		f, err := kube.Parse("secret", data)
		if err != nil {
			return nil, err
		}
		logins = append(logins, f.Logins()...)
	}
	return logins, nil
}

// A Keeper keeps the certificate of the webhook in a Secret that its replicas share, and the
// authority that signed it in the configuration of the webhook. The first replica makes
// them.
type Keeper struct {
	API           *API
	Namespace     string
	Secret        string // its name
	Configuration string // name of the MutatingWebhookConfiguration
	Names         []string
	Now           func() time.Time // nil means time.Now
	Log           *slog.Logger

	current atomic.Pointer[tls.Certificate]
}

// A secret is a Secret as far as it is needed here.
type secret struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name            string `json:"name"`
		Namespace       string `json:"namespace"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	} `json:"metadata"`
	Type string            `json:"type,omitempty"`
	Data map[string][]byte `json:"data"`
}

// Certificate returns the certificate for a connection.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// Ready reports whether there is a certificate that is valid now.
func (k *Keeper) Ready() bool {
	c := k.current.Load()
	return c != nil && c.Leaf != nil && k.now().Before(c.Leaf.NotAfter)
}

func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

// Run keeps the certificate until ctx ends. A failure is logged and tried again: the old
// certificate is used until then.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		wait := checkEvery
		if err := k.Ensure(ctx); err != nil {
			k.Log.WarnContext(ctx, "certificate: "+err.Error())
			wait = 5 * time.Second
		}
		ticker.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Ensure reads the certificate from the Secret, makes or renews it if necessary, and writes
// the authority into the configuration of the webhook. Of several replicas that make one at
// the same time, the first wins, and the others use what it made.
func (k *Keeper) Ensure(ctx context.Context) error {
	path := "/api/v1/namespaces/" + k.Namespace + "/secrets"
	for range 3 {
		var s secret
		err := k.API.do(ctx, http.MethodGet, path+"/"+k.Secret, "application/json", nil, &s)
		exists := err == nil
		if err != nil && !hasStatus(err, http.StatusNotFound) {
			return err
		}
		renewed, err := k.renew(&s)
		if err != nil {
			return err
		}
		if renewed && exists {
			err = k.API.do(ctx, http.MethodPut, path+"/"+k.Secret, "application/json", s, nil)
		} else if renewed {
			err = k.API.do(ctx, http.MethodPost, path, "application/json", s, nil)
		}
		if hasStatus(err, http.StatusConflict) {
			continue // another replica was first
		}
		if err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
		if err != nil {
			return err
		}
		if err := k.trust(ctx, s.Data["ca.crt"]); err != nil {
			return err
		}
		k.current.Store(&pair)
		return nil
	}
	return errors.New("other replicas change the Secret at the same time")
}

// renew makes the parts of the Secret that are missing, broken or two thirds through their
// life, and reports whether it made any.
func (k *Keeper) renew(s *secret) (bool, error) {
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	s.APIVersion, s.Kind, s.Metadata.Name, s.Metadata.Namespace = "v1", "Secret", k.Secret, k.Namespace
	renewed := false
	authority, err := k.usable(s.Data["ca.crt"], s.Data["ca.key"])
	if err != nil {
		old := s.Data["ca.crt"]
		if authority, err = k.create(nil); err != nil {
			return false, err
		}
		certificate, key, err := encode(authority)
		if err != nil {
			return false, err
		}
		// Certificates of the old authority are in use until all replicas have a new one.
		s.Data["ca.crt"], s.Data["ca.key"] = append(certificate, firstBlock(old)...), key
		renewed = true
	}
	leaf, err := k.usable(s.Data["tls.crt"], s.Data["tls.key"])
	if err == nil && !renewed && leaf.Leaf.CheckSignatureFrom(authority.Leaf) == nil {
		return false, nil
	}
	if leaf, err = k.create(authority); err != nil {
		return false, err
	}
	s.Data["tls.crt"], s.Data["tls.key"], err = encode(leaf)
	return true, err
}

// firstBlock returns the first certificate of a PEM file that can be read, or nothing.
func firstBlock(file []byte) []byte {
	if block, _ := pem.Decode(file); block != nil {
		return pem.EncodeToMemory(block)
	}
	return nil
}

// usable parses a pair that is valid and not two thirds through its life.
func (k *Keeper) usable(certificate, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	from, to, now := pair.Leaf.NotBefore, pair.Leaf.NotAfter, k.now()
	if now.Before(from) || now.After(from.Add(to.Sub(from)*2/3)) {
		return nil, errors.New("the certificate is old")
	}
	return &pair, nil
}

// create makes a certificate: an authority if parent is nil, otherwise one for the names of
// the webhook.
func (k *Keeper) create(parent *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	life := leafLife
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: k.Names[0]}, NotBefore: k.now().Add(-clockSkew), DNSNames: k.Names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	signer, signedBy := any(key), (*x509.Certificate)(nil)
	if parent == nil {
		life = authorityLife
		template = &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "mabuild webhook"}, NotBefore: template.NotBefore, KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true}
		signedBy = template
	} else {
		signer, signedBy = parent.PrivateKey, parent.Leaf
	}
	template.NotAfter = k.now().Add(life)
	der, err := x509.CreateCertificate(rand.Reader, template, signedBy, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// encode writes a pair as PEM.
func encode(c *tls.Certificate) (certificate, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// trust writes the authority into the configuration of the webhook, if another one is there.
func (k *Keeper) trust(ctx context.Context, bundle []byte) error {
	path := "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + k.Configuration
	var c struct {
		Webhooks []struct {
			ClientConfig struct {
				CABundle []byte `json:"caBundle"`
			} `json:"clientConfig"`
		} `json:"webhooks"`
	}
	if err := k.API.do(ctx, http.MethodGet, path, "application/json", nil, &c); err != nil {
		return err
	}
	if len(c.Webhooks) == 1 && bytes.Equal(c.Webhooks[0].ClientConfig.CABundle, bundle) {
		return nil
	}
	if len(c.Webhooks) != 1 {
		return fmt.Errorf("%s has %d webhooks instead of one", k.Configuration, len(c.Webhooks))
	}
	patch := []map[string]any{{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}}
	return k.API.do(ctx, http.MethodPatch, path, "application/json-patch+json", patch, nil)
}
