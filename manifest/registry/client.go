// Package registry is mabuild's only door to registries: a [manifest.Source]
// and a [manifest.Sink] that speaks the OCI distribution specification over
// net/http. A zero [Client] is ready, with the credentials of Docker and Podman:
//
//	client := new(registry.Client)
//	image, err := client.Get(ctx, "docker.io/library/alpine:3")
//	err = client.Put(ctx, "ghcr.io/acme/alpine:3", image)
//
// Content is lazy: layers stream from one registry to the other while Put runs, or
// are mounted where both are in one.
//
// What it promises, and what no layer below it may take away:
//
//   - Retries happen in one place, with one budget, and end with the context.
//   - Credentials go to the registry they belong to and to a token server that
//     the rules allow, never along a redirect.
//   - Whatever is read is bounded, and verified against its digest before
//     anybody sees it.
//   - A tag moves last: everything it reaches was stored or seen before.
//
// Answers of a registry are hostile until proved otherwise: their text is
// cleaned before it is shown, the addresses they name are checked before they
// are dialled.
package registry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/manifest"
)

// LevelTransfer is the level of the records that say how far a blob has got:
// message "transfer" with op (upload, download, mount, exists), host,
// repository, digest, bytes and size. The last record of a transfer that
// succeeds has bytes == size.
const LevelTransfer = slog.LevelDebug - 4

// defaultPerHost is how many requests a host gets at once unless told otherwise:
// enough to hide the round trips of many small blobs, few enough not to be
// throttled by a public registry.
const defaultPerHost = 16

// A Client is one run's view of any number of registries. Its zero value is
// ready to use. It is safe for concurrent use and must not be copied.
//
// What it learns (tokens, schemes, pauses that a registry asked for, blobs and
// manifests that it stored or saw) it remembers for its lifetime: a program that
// runs for days makes a new Client for each round.
type Client struct {
	// Keychain gives the credentials; nil means [DefaultKeychain].
	Keychain authn.Keychain
	// Hosts holds what is special about a registry, by its name as in a
	// reference: "registry.local", "localhost:5000", "docker.io".
	Hosts map[string]Host
	// CAFile is a PEM file of certificate authorities to trust beside the
	// system's; ClientCert and ClientKey are the PEM files of the certificate to
	// show to registries. A [Host] may have its own.
	CAFile, ClientCert, ClientKey string
	// TrustRealms names hosts of token servers that may have a registry's
	// credentials though they are in another domain.
	TrustRealms []string
	// CacheDir keeps manifests and configs between runs; "" keeps none. A broken
	// cache costs time, never a result.
	CacheDir string
	// Verify makes Put look for the blobs, too, below what is there already, and
	// store those that are gone. It costs a HEAD a blob.
	Verify bool
	// UserAgent is sent with each request; "" means "mabuild".
	UserAgent string
	// MaxPerHost bounds the requests in flight to one host; 0 means 16. Reading
	// blobs has a bound of its own, of the same size.
	MaxPerHost int
	// QuotaReserve is how many pulls are to be left for others where a registry has
	// a [Quota]: reading a manifest that would leave fewer is refused before it is
	// sent, with an [*Error] that knows when to come back. HEADs go on. 0 leaves
	// the refusing to the registry.
	QuotaReserve int
	// Limits are had in common with other Clients; nil are its own.
	Limits *Limits
	// Log gets each request at [slog.LevelDebug] and transfers at
	// [LevelTransfer]; nil is silent. Nothing secret is logged.
	Log *slog.Logger
	// Sleep waits for d or until ctx ends, whose error it then returns. nil
	// means a timer.
	Sleep func(ctx context.Context, d time.Duration) error

	once      sync.Once
	transport *transport
	cache     *cache.Cache
	session   session
}

var (
	_ manifest.Source         = (*Client)(nil)
	_ manifest.Sink           = (*Client)(nil)
	_ manifest.PushPreparer   = (*Client)(nil)
	_ manifest.BasePusher     = (*Client)(nil)
	_ manifest.ReferrerLister = (*Client)(nil)
)

// start makes what a run needs, at first use.
func (c *Client) start() {
	c.once.Do(func() {
		c.transport = newTransport(c)
		if c.CacheDir == "" {
			return
		}
		var err error
		if c.cache, err = cache.Open(c.CacheDir); err != nil {
			c.transport.log.Warn("continuing without a cache", "err", err)
		}
	})
}
