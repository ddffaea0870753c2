// Package registry is the client of the OCI distribution specification: a
// [manifest.Source] and a [manifest.Sink] over net/http. It is the only package of
// mabuild that sends requests to registries. A zero [Client] is ready to use, with the
// credentials of Docker and Podman:
//
//	client := new(registry.Client)
//	image, err := client.Get(ctx, "docker.io/library/alpine:3")
//	err = client.Put(ctx, "ghcr.io/acme/alpine:3", image)
//
// Content is lazy: layers are read while Put runs, and are streamed from one registry to
// the other, or mounted if both repositories are in one registry.
//
// The package promises:
//
//   - One place decides about retries of requests, with one budget. Parts that a registry
//     reports as missing are stored again a few times. Both end with the context.
//   - Credentials go only to the registry that they belong to and to a token service
//     that the rules allow, never along a redirect.
//   - Everything that is read has a size limit and is compared with its digest. Manifests
//     and configs are compared before the caller gets them, layers while they are read.
//   - A tag is put last, after everything that it refers to was stored or found.
//
// The package treats a registry's answers as hostile: their text is cleaned before it is
// shown, and the addresses in them are checked before they are dialled.
//
// It does not choose platforms, change content or sign it. It deletes nothing but its own
// upload sessions.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry/internal/transport"
)

// A Client is the view that one run has of any number of registries. Its zero value is
// ready to use. It is safe for concurrent use. The fields must not change after the first
// call, and a Client must not be copied.
//
// A Client remembers what it has learnt (tokens, schemes, pauses that a registry asked
// for, blobs and manifests that it stored or found) for its lifetime. A program that runs
// for days makes a new Client for each round, so that changes by others are seen. A
// Client has no Close; its idle connections end after 30 seconds.
type Client struct {
	// Keychain has the credentials; nil means [DefaultKeychain].
	Keychain authn.Keychain
	// Hosts has the settings of single registries, by the name in a reference:
	// "registry.local", "localhost:5000", "docker.io".
	Hosts map[string]Host
	// CAFile is a PEM file of certificate authorities to trust besides the system's.
	// ClientCert and ClientKey are the PEM files of the client certificate. A [Host] may
	// override them.
	CAFile, ClientCert, ClientKey string
	// TrustRealms has the hosts of token services that may receive a registry's
	// credentials although they are in another domain.
	TrustRealms []string
	// CacheDir keeps manifests and configs between runs; "" disables that. An unusable
	// cache costs time only.
	CacheDir string
	// Verify makes Put check the blobs of images that exist already and store those that
	// are missing. It costs one HEAD for each blob.
	Verify bool
	// UserAgent is sent with each request; "" means "mabuild".
	UserAgent string
	// MaxPerHost bounds the requests in flight to one host; 0 means 16. Reading blobs has
	// a separate bound of the same size, because an upload may wait for a download from
	// the same host.
	MaxPerHost int
	// QuotaReserve is the number of pulls to leave for others at a registry with a
	// [Quota]. A request for a manifest that would leave fewer is not sent; its [*Error]
	// has the time when the quota is full again. HEAD requests do not count. 0 reserves
	// nothing.
	QuotaReserve int
	// Limits are shared with other Clients; nil means that this Client has its own.
	Limits *Limits
	// Log gets each request at [slog.LevelDebug] and transfers at [LevelTransfer]; nil
	// discards them. Secrets are not logged.
	Log *slog.Logger
	// Sleep waits for d or until ctx ends, and then returns the error of ctx. nil means a
	// timer. Tests replace it.
	Sleep func(ctx context.Context, d time.Duration) error

	once      sync.Once
	transport *transport.Transport
	cache     *cache.Cache
	session   session

	cleanupTimeout time.Duration // see the constant; tests change it
}

// The optional interfaces of package manifest that a Client implements.
var (
	_ manifest.Source         = (*Client)(nil)
	_ manifest.Sink           = (*Client)(nil)
	_ manifest.ReferrerLister = (*Client)(nil)
)

// start creates the transport and opens the cache at the first use. Every exported method
// calls it, directly or through parse.
func (c *Client) start() {
	c.once.Do(func() { c.startWith(c.config()) })
}

// config returns the configuration of the transport.
func (c *Client) config() transport.Config {
	config := transport.Config{
		UserAgent:    c.UserAgent,
		Keychain:     c.Keychain,
		Hosts:        c.Hosts,
		Files:        Host{CAFile: c.CAFile, ClientCert: c.ClientCert, ClientKey: c.ClientKey},
		TrustRealms:  c.TrustRealms,
		MaxPerHost:   c.MaxPerHost,
		QuotaReserve: c.QuotaReserve,
		Limits:       c.Limits,
		Log:          c.Log,
		Sleep:        c.Sleep,
	}
	if c.Keychain == nil {
		config.Keychain = DefaultKeychain
	}
	return config
}

// startWith makes the transport and opens the cache.
func (c *Client) startWith(config transport.Config) {
	c.transport, c.cleanupTimeout = transport.New(config), cleanupTimeout
	if c.CacheDir == "" {
		return
	}
	var err error
	if c.cache, err = cache.Open(c.CacheDir); err != nil {
		c.transport.Log.Warn("continuing without a cache", "err", err)
	}
}

// Quotas returns the known quotas by the names of the registries. It sends no request: a
// registry is missing if no answer of this run had a quota, or if its window is over.
func (c *Client) Quotas() map[string]Quota {
	c.start()
	return c.transport.Quotas()
}

// Login checks whether a registry accepts the credentials that the keychain has for it,
// with GET /v2/, which every registry answers (distribution-spec, "Determining Support").
// A registry that does not ask for credentials accepts any, so Login then proves nothing
// about them. It does not store anything. A web page in place of an answer is
// [manifest.ErrMismatch].
func (c *Client) Login(ctx context.Context, registry string) error {
	c.start()
	n, err := name.NewRegistry(registry)
	if err != nil {
		return fmt.Errorf("registry %q: %w", transport.Clean(registry), err)
	}
	if err := checkHost(n.RegistryStr()); err != nil {
		return err
	}
	req := &transport.Request{
		Method: http.MethodGet, Registry: c.transport.Registry(n.RegistryStr()), Header: http.Header{},
		Want: []int{http.StatusOK},
	}
	resp, err := c.transport.Ask(ctx, req)
	if err != nil {
		return err
	}
	// Quay answers with text/html too, but its header identifies it as a registry.
	if plainType(resp.Header.Get("Content-Type")) == "text/html" && resp.Header.Get("Docker-Distribution-Api-Version") == "" {
		return mismatch("%s answers /v2/ with a web page: it is not a registry, or a login page is in front of it", n.RegistryStr())
	}
	return nil
}
