package registry

import (
	"cmp"
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

// helperLimit is how long a credential helper may take.
const helperLimit = 30 * time.Second

// helperGrace is how much longer a keychain may take that runs one: to kill it.
const helperGrace = 2 * time.Second

// A keychain asks for the credentials of each repository once.
type keychain struct {
	inner authn.Keychain
	asks  *helpers
	calls once.Flight[string, authn.AuthConfig]
	held  sync.Map // of authn.AuthConfig by repository

	origins sync.Map // where those came from, of credentialsOrigin, if that is known
}

// of returns the credentials for k; the zero AuthConfig is anonymous.
func (c *keychain) of(ctx context.Context, k *request) (authn.AuthConfig, error) {
	key := k.host.name + "/" + k.repo
	if held, ok := c.held.Load(key); ok {
		return held.(authn.AuthConfig), nil
	}
	return share(ctx, c.calls.Do, key, func() (authn.AuthConfig, error) {
		config, err := c.ask(ctx, key, k.host.name)
		if err != nil {
			e := k.fault(err)
			e.credential, e.final = !ended(err), true
			return authn.AuthConfig{}, e
		}
		c.held.Store(key, config)
		return config, nil
	})
}

// ask asks the inner keychain, which may run a helper that hangs.
func (c *keychain) ask(ctx context.Context, repository, registry string) (authn.AuthConfig, error) {
	var target authn.Resource
	target, err := name.NewRepository(repository)
	if err != nil { // the registry alone
		if target, err = name.NewRegistry(registry); err != nil {
			return authn.AuthConfig{}, err
		}
	}
	outer := ctx
	limit := cmp.Or(c.asks.limit, helperLimit)
	ctx, cancel := context.WithTimeout(ctx, limit+helperGrace)
	defer cancel()
	ctx = context.WithValue(ctx, helpersKey{}, c.asks)
	type answer struct {
		config *authn.AuthConfig
		kept   credentialsOrigin
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		found, err := authn.Resolve(ctx, c.inner, target)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		a := answer{}
		if own, ok := found.(storedCredentials); ok {
			a.kept = own.at
		}
		a.config, a.err = authn.Authorization(ctx, found)
		answered <- a
	}()
	select {
	case <-ctx.Done():
		if outer.Err() != nil {
			return authn.AuthConfig{}, stopped(outer)
		}
		return authn.AuthConfig{}, fmt.Errorf("no credentials after %v", limit)
	case a := <-answered:
		if a.err != nil && outer.Err() != nil {
			return authn.AuthConfig{}, stopped(outer)
		}
		if a.err != nil {
			return authn.AuthConfig{}, keychainError(a.err)
		}
		if a.kept != (credentialsOrigin{}) {
			c.origins.Store(repository, a.kept)
		}
		config := *a.config
		config.Auth = "" // the user and password once more
		if config.Username == "<token>" {
			config.Username = ""
		}
		return config, nil
	}
}

// keychainError returns what err of a keychain says, fit to be shown. The words of a helper are
// those that [authfile.HelperError] takes for no secret; a keychain of others that runs
// helpers with Docker's library appends their output, which is left out.
func keychainError(err error) error {
	text := err.Error()
	way := hint.Of(err)
	if way == "" {
		text, _, _ = strings.Cut(text, ", out:")
	}
	return hint.New(hint.Build, clean(way), "%s", clean("credentials: "+text))
}
