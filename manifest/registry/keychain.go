package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// helperLimit is how long a credential helper may take.
const helperLimit = 30 * time.Second

// A keychain asks for the credentials of each repository once.
type keychain struct {
	inner authn.Keychain
	limit time.Duration // of one question; 0 means helperLimit
	calls flights[string, authn.AuthConfig]
	held  sync.Map // of authn.AuthConfig by repository
}

// of returns the credentials for k; the zero AuthConfig is anonymous.
func (c *keychain) of(ctx context.Context, k *call) (authn.AuthConfig, error) {
	key := k.host.name + "/" + k.repo
	if held, ok := c.held.Load(key); ok {
		return held.(authn.AuthConfig), nil
	}
	return c.calls.do(ctx, key, func() (authn.AuthConfig, error) {
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

// ask asks the inner keychain, which may run a helper that hangs. What a helper
// prints may be a secret and is not repeated.
func (c *keychain) ask(ctx context.Context, repository, registry string) (authn.AuthConfig, error) {
	var target authn.Resource
	target, err := name.NewRepository(repository)
	if err != nil { // the registry alone
		if target, err = name.NewRegistry(registry); err != nil {
			return authn.AuthConfig{}, err
		}
	}
	outer := ctx
	limit := cmp.Or(c.limit, helperLimit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type answer struct {
		config *authn.AuthConfig
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		found, err := authn.Resolve(ctx, c.inner, target)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		config, err := authn.Authorization(ctx, found)
		answered <- answer{config, err}
	}()
	select {
	case <-ctx.Done():
		if outer.Err() != nil {
			return authn.AuthConfig{}, stopped(outer)
		}
		return authn.AuthConfig{}, fmt.Errorf("no credentials after %v", limit)
	case a := <-answered:
		if a.err != nil {
			return authn.AuthConfig{}, errors.New(withoutOutput(a.err))
		}
		config := *a.config
		config.Auth = "" // the user and password once more
		if config.Username == "<token>" {
			config.Username = ""
		}
		return config, nil
	}
}

// withoutOutput returns what err says without the output of a helper, which the
// Docker library appends.
func withoutOutput(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", out:")
	return clean("credentials: " + text)
}
