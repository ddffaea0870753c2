package transport

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

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
