package transport

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/internal/authfile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/once"
)

// helperLimit bounds one call of a credential helper.
const helperLimit = 30 * time.Second

// helperGrace is added to the limit for the whole keychain: killing a helper takes time,
// and its error is better than that of the keychain.
const helperGrace = 2 * time.Second

// A keychain asks the inner keychain for the credentials of each repository once in a run
// and remembers them. Credentials belong to a repository and not to a host, because files
// may have entries for namespaces. It is safe for concurrent use.
type keychain struct {
	inner authn.Keychain
	asks  *helpers
	calls once.Flight[string, authn.AuthConfig]
	held  sync.Map // from host/repository to authn.AuthConfig

	origins sync.Map // from host/repository to *storedCredentials, if that is known
}

// of returns the credentials for k; the zero AuthConfig means anonymous. A failure is
// final for the request but is not remembered here.
func (c *keychain) of(ctx context.Context, r *Request) (authn.AuthConfig, error) {
	key := r.Registry.Name + "/" + r.Repository
	if held, ok := c.held.Load(key); ok {
		return held.(authn.AuthConfig), nil
	}
	return Share(ctx, c.calls.Do, key, func() (authn.AuthConfig, error) {
		config, err := c.ask(ctx, key, r.Registry.Name)
		if err != nil {
			e := r.Fault(err)
			e.credential, e.final = !ended(err), true
			return authn.AuthConfig{}, e
		}
		c.held.Store(key, config)
		return config, nil
	})
}

// ask asks the inner keychain in a separate goroutine: a keychain of another package may
// ignore the context and hang. The goroutine then outlives the call, and its result is
// not read.
func (c *keychain) ask(ctx context.Context, repository, registry string) (authn.AuthConfig, error) {
	var target authn.Resource
	target, err := name.NewRepository(repository)
	if err != nil { // without a repository, as at a login
		if target, err = name.NewRegistry(registry); err != nil {
			return authn.AuthConfig{}, err
		}
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, c.asks.limit+helperGrace)
	defer cancel()
	ctx = context.WithValue(ctx, helpersKey{}, c.asks)
	var found authn.Authenticator
	var answer *authn.AuthConfig
	var failed error
	answered := make(chan struct{}) // closed when the three are set
	go func() {
		defer close(answered)
		if found, failed = authn.Resolve(ctx, c.inner, target); failed == nil {
			answer, failed = authn.Authorization(ctx, found)
		}
	}()
	select {
	case <-ctx.Done():
		if outer.Err() != nil {
			return authn.AuthConfig{}, stopped(outer)
		}
		return authn.AuthConfig{}, fmt.Errorf("no credentials after %v", c.asks.limit)
	case <-answered:
		if failed != nil && outer.Err() != nil {
			return authn.AuthConfig{}, stopped(outer)
		}
		if failed != nil {
			return authn.AuthConfig{}, keychainError(failed)
		}
		if stored, ok := found.(*storedCredentials); ok {
			c.origins.Store(repository, stored)
		}
		config := *answer
		config.Auth = "" // repeats the user and password
		if config.Username == "<token>" {
			config.Username = ""
		}
		return config, nil
	}
}

// keychainError returns the error of a keychain in a form that is safe to print. The text
// of an error with a hint is used as it is: [authfile.HelperError] has removed what may
// be a secret. Another keychain may run helpers with Docker's library, which appends the
// helper's output after ", out:"; that is cut off.
func keychainError(err error) error {
	text := err.Error()
	way := hint.Of(err)
	if way == "" {
		text, _, _ = strings.Cut(text, ", out:")
	}
	return hint.New(hint.Build, Clean(way), "%s", Clean("credentials: "+text))
}

// DefaultKeychain has the credentials of Docker and Podman: of the file that
// REGISTRY_AUTH_FILE names, of Docker's configuration (DOCKER_CONFIG), and of Podman's
// auth.json, in this order; docs/cli.md has the complete list. A file without credentials
// for a host is skipped. It is an [authn.ContextKeychain]: a credential helper is killed
// with all processes that it started when the context ends. The files are read at each
// call.
var DefaultKeychain authn.Keychain = placesKeychain{}

// ConfigKeychain returns a keychain like [DefaultKeychain] for one file only: a file of
// Docker's or Podman's, or config.json in a directory. It is read once, here.
func ConfigKeychain(path string) (authn.Keychain, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "config.json")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	file, err := authfile.Open(authfile.Location{Path: path, Named: true})
	if err != nil {
		return nil, err
	}
	return placesKeychain{file}, nil
}

// A placesKeychain searches the files of credentials in their order.
type placesKeychain struct {
	file *authfile.File // the only file; nil: those of the environment
}

var _ authn.ContextKeychain = placesKeychain{}

// Resolve is ResolveContext without a context, as [authn.Keychain] requires.
func (r placesKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return r.ResolveContext(context.Background(), target) //nolint:forbidigo // by the interface
}

// ResolveContext searches each file for the repository and its host and returns the first
// credentials. A file that cannot be parsed is an error and is not skipped: without its
// credentials a push would fail with a misleading 401.
func (r placesKeychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	host := authfile.Canonical(target.RegistryStr())
	repository := strings.TrimPrefix(strings.TrimPrefix(target.String(), target.RegistryStr()), "/")
	if r.file != nil {
		return r.from(ctx, r.file, host, repository)
	}
	for _, place := range authfile.Places(os.Getenv) { //nolint:forbidigo // what Docker and Podman read
		file, err := authfile.Open(place)
		if err != nil {
			return nil, err
		}
		found, err := r.from(ctx, file, host, repository)
		if err != nil || found != authn.Anonymous {
			return found, err
		}
	}
	return authn.Anonymous, nil
}

// from searches one file.
func (r placesKeychain) from(ctx context.Context, file *authfile.File, host, repository string) (authn.Authenticator, error) {
	found, ok, err := file.Find(ctx, host, repository, helpersOf(ctx).get)
	if err != nil {
		return nil, err
	}
	if !ok {
		return authn.Anonymous, nil
	}
	return &storedCredentials{authn.FromConfig(found.AuthConfig), found.At, found.Helper}, nil
}

// storedCredentials are credentials with the place where they are stored, which hints
// name.
type storedCredentials struct {
	authn.Authenticator
	at     string // a file, or the program of a helper
	helper bool
}

// helpers calls each credential helper once for each key and remembers the result, also
// an error: a helper may ask the user, and a broken one may take until its limit. It is
// safe for concurrent use.
type helpers struct {
	limit   time.Duration // of one call
	results once.Memo[helperKey, authn.AuthConfig]
}

type helperKey struct{ helper, key string }

// helpersKey is the key of *helpers in a context.
type helpersKey struct{}

// helpersOf returns the helpers of the run that ctx belongs to. They are passed in the
// context, since keychains that wrap another one pass only that on. Without them each
// call has its own.
func helpersOf(ctx context.Context) *helpers {
	if h, ok := ctx.Value(helpersKey{}).(*helpers); ok {
		return h
	}
	return &helpers{limit: helperLimit}
}

// get calls a helper or returns its earlier result. The end of a context is not
// remembered.
func (h *helpers) get(ctx context.Context, helper, key string) (authn.AuthConfig, error) {
	return Share(ctx, h.results.Do, helperKey{helper, key}, func() (authn.AuthConfig, error) {
		return authfile.Get(ctx, h.limit, helper, key)
	})
}
