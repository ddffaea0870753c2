package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// maxHelperOutput bounds what is read of a credential helper, in bytes.
const maxHelperOutput = 64 << 10

// DefaultKeychain has the credentials of Docker's configuration, or of Podman's where
// there is none, as [authn.DefaultKeychain] has. It is an [authn.ContextKeychain]: a
// credential helper that hangs ends with the context, with all that it started.
var DefaultKeychain authn.Keychain = dockerKeychain{}

// ConfigKeychain is a [DefaultKeychain] of one configuration of Docker's: a file, or
// config.json in a directory.
func ConfigKeychain(path string) (authn.Keychain, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, dockerconfig.ConfigFileName)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	file := configfile.New(path)
	if err := file.LoadFromReader(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return dockerKeychain{file}, nil
}

// dockerKeychain runs credential helpers itself.
type dockerKeychain struct {
	file *configfile.ConfigFile // nil: what DOCKER_CONFIG says, each time
}

var _ authn.ContextKeychain = dockerKeychain{}

func (k dockerKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target) //nolint:forbidigo // who asks in this way has none
}

// ResolveContext asks for the credentials of the repository, then for those of its
// registry.
func (k dockerKeychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	if k.file != nil {
		return k.from(ctx, k.file, target)
	}
	docker := filepath.Join(dockerconfig.Dir(), dockerconfig.ConfigFileName)
	file, err := dockerconfig.Load(os.Getenv("DOCKER_CONFIG")) //nolint:forbidigo // what authn.DefaultKeychain reads
	if err == nil && (file.CredentialsStore != "" || len(file.CredentialHelpers) > 0) {
		return k.from(ctx, file, target)
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, target)
	at := cmp.Or(thatIs(docker), thatIs(os.Getenv("REGISTRY_AUTH_FILE")), "podman's auth.json") //nolint:forbidigo // as above
	if err != nil {
		return nil, storeError{at + ": " + err.Error(), "repair " + at + ", or remove it and log in again"}
	}
	return kept{found, at}, nil
}

// thatIs returns a path if something is there.
func thatIs(path string) string {
	if _, err := os.Stat(path); path == "" || err != nil { //nolint:gosec // a file that the person names
		return ""
	}
	return path
}

// from asks a configuration, or the helper that it names.
func (k dockerKeychain) from(ctx context.Context, file *configfile.ConfigFile, target authn.Resource) (authn.Authenticator, error) {
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		found, err := credentialsFor(ctx, file, key)
		if errors.Is(err, exec.ErrNotFound) {
			return nil, storeError{err.Error(), "install it, or take it out of " + file.GetFilename() + ", which names it"}
		}
		if err != nil {
			return nil, err
		}
		if found != (authn.AuthConfig{}) {
			return kept{authn.FromConfig(found), cmp.Or(helperOf(file, key), file.GetFilename())}, nil
		}
	}
	return authn.Anonymous, nil
}

// kept are credentials that say where they are kept.
type kept struct {
	authn.Authenticator
	at string
}

func (k kept) Origin() string { return k.at }

// helperOf returns the program that has the credentials for key, empty for none.
func helperOf(file *configfile.ConfigFile, key string) string {
	if helper := cmp.Or(file.CredentialHelpers[key], file.CredentialsStore); helper != "" {
		return "docker-credential-" + helper
	}
	return ""
}

// credentialsFor returns what the config, or the helper that it names for key, has
// for key; the zero AuthConfig is nothing.
func credentialsFor(ctx context.Context, file *configfile.ConfigFile, key string) (authn.AuthConfig, error) {
	helper := file.CredentialHelpers[key]
	if helper == "" {
		helper = file.CredentialsStore
	}
	if helper != "" {
		return askHelper(ctx, helper, key)
	}
	c, err := file.GetAuthConfig(key)
	return authn.AuthConfig{
		Username: c.Username, Password: c.Password,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	}, err
}

// askHelper runs docker-credential-HELPER get (docker-credential-helpers,
// "Development"). Nothing that it prints gets into an error: it may be a secret.
func askHelper(ctx context.Context, helper, key string) (authn.AuthConfig, error) {
	program := "docker-credential-" + helper
	out := &bounded{left: maxHelperOutput}
	cmd := exec.CommandContext(ctx, program, "get") //nolint:gosec // the user's own config names it
	cmd.Stdin, cmd.Stdout = strings.NewReader(key), out
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe
	asGroup(cmd)
	err := cmd.Run()
	text := strings.TrimSpace(string(out.kept))
	switch {
	case ctx.Err() != nil:
		return authn.AuthConfig{}, stopped(ctx)
	case err != nil && text == "credentials not found in native keychain":
		return authn.AuthConfig{}, nil
	case out.left < 0:
		return authn.AuthConfig{}, fmt.Errorf("%s says more than %d bytes", program, maxHelperOutput)
	case err != nil:
		return authn.AuthConfig{}, fmt.Errorf("%s: %w", program, err)
	}
	var said struct{ Username, Secret string }
	if json.Unmarshal([]byte(text), &said) != nil {
		return authn.AuthConfig{}, fmt.Errorf("%s: not the answer of a credential helper", program)
	}
	if said.Username == "<token>" {
		return authn.AuthConfig{IdentityToken: said.Secret}, nil
	}
	return authn.AuthConfig{Username: said.Username, Password: said.Secret}, nil
}

// bounded keeps what is written to it, and refuses more than left.
type bounded struct {
	kept []byte
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("too much")
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}
