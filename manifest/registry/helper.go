package registry

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/authfile"
	"github.com/mabuild/mabuild/internal/once"
)

// DefaultKeychain has the credentials of Docker and Podman: of the file that
// REGISTRY_AUTH_FILE names, of Docker's configuration (DOCKER_CONFIG), and of Podman's
// auth.json, in this order; docs/cli.md has it in full. A place that has nothing for a
// host is passed by. Helpers are asked for hosts. It is an [authn.ContextKeychain]: a
// credential helper that hangs ends with the context, with all that it started.
var DefaultKeychain authn.Keychain = placesKeychain{}

// ConfigKeychain is a [DefaultKeychain] of one configuration alone: a file of Docker's or
// Podman's, or config.json in a directory.
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

// placesKeychain asks the files in their order.
type placesKeychain struct {
	file *authfile.File // nil: those of the environment, each time
}

var _ authn.ContextKeychain = placesKeychain{}

func (k placesKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target) //nolint:forbidigo // who asks in this way has none
}

// ResolveContext asks each place for the repository and its host, and ends at the first
// that has credentials.
func (k placesKeychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	host := authfile.Canonical(target.RegistryStr())
	repository := strings.TrimPrefix(strings.TrimPrefix(target.String(), target.RegistryStr()), "/")
	if k.file != nil {
		return k.from(ctx, k.file, host, repository)
	}
	for _, place := range authfile.Places(os.Getenv) { //nolint:forbidigo // what Docker and Podman read
		file, err := authfile.Open(place)
		if err != nil {
			return nil, err
		}
		found, err := k.from(ctx, file, host, repository)
		if err != nil || found != authn.Anonymous {
			return found, err
		}
	}
	return authn.Anonymous, nil
}

func (k placesKeychain) from(ctx context.Context, file *authfile.File, host, repository string) (authn.Authenticator, error) {
	found, ok, err := file.Find(ctx, host, repository, helpersOf(ctx).get)
	if err != nil {
		return nil, err
	}
	if !ok {
		return authn.Anonymous, nil
	}
	return storedCredentials{authn.FromConfig(found.AuthConfig), credentialsOrigin{found.At, found.Helper}}, nil
}

// storedCredentials are credentials that say where they are kept.
type storedCredentials struct {
	authn.Authenticator
	at credentialsOrigin
}

// credentialsOrigin is where credentials are kept: a file, or the program of a helper.
type credentialsOrigin struct {
	at     string
	helper bool
}

// helpers asks each credential helper for each key once, whatever came of it.
type helpers struct {
	limit   time.Duration // of one question; 0 means helperLimit
	results once.Memo[helperKey, authn.AuthConfig]
}

type helperKey struct{ helper, key string }

type helpersKey struct{}

// helpersOf returns the helpers of the run that ctx belongs to. Keychains that wrap
// another pass them on.
func helpersOf(ctx context.Context) *helpers {
	if h, ok := ctx.Value(helpersKey{}).(*helpers); ok {
		return h
	}
	return new(helpers)
}

// get asks a helper, or returns what it answered before. An error is remembered, too, but
// not that of a run that ends.
func (h *helpers) get(ctx context.Context, helper, key string) (authn.AuthConfig, error) {
	return share(ctx, h.results.Do, helperKey{helper, key}, func() (authn.AuthConfig, error) {
		return authfile.Get(ctx, cmp.Or(h.limit, helperLimit), helper, key)
	})
}
