package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	dockertypes "github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type loginOptions struct {
	user     string
	password string
	stdin    bool
}

func newLogin(a *app) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login HOST",
		Short: "Check and keep the credentials of a registry",
		Long: `Check the credentials of a registry and keep them where Docker keeps its own: in
its credential helper, or in its config file.`,
		Example: "  echo \"$TOKEN\" | mabuild login ghcr.io -u acme --password-stdin",
		Args:    exactlyOne("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runLogin(cmd.Context(), a, o, args[0])
		},
	}
	cmd.Flags().StringVarP(&o.user, "username", "u", "", "user name")
	cmd.Flags().StringVarP(&o.password, "password", "p", "", "password; other users of the machine can see it")
	cmd.Flags().BoolVar(&o.stdin, "password-stdin", false, "read the password from standard input")
	cmd.MarkFlagsMutuallyExclusive("password", "password-stdin")
	return cmd
}

func newLogout(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout HOST",
		Short: "Forget the credentials of a registry",
		Args:  exactlyOne("HOST"),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := credentialKey(args[0])
			if err != nil {
				return err
			}
			file, err := credentials()
			if err != nil {
				return err
			}
			if _, ok := file.GetAuthConfigs()[key]; !ok {
				if stored, err := file.GetCredentialsStore(key).Get(key); err != nil || stored.Username == "" && stored.IdentityToken == "" {
					_, err := fmt.Fprintf(a.stderr, "not logged in to %s\n", args[0])
					return err
				}
			}
			if err := file.GetCredentialsStore(key).Erase(key); err != nil {
				return fmt.Errorf("%s: %w", file.GetFilename(), err)
			}
			_, err = fmt.Fprintf(a.stderr, "logged out of %s\n", args[0])
			return err
		},
	}
}

// credentialKey is the name under which a registry's credentials are kept:
// Docker's own for its hub, the host otherwise.
func credentialKey(host string) (string, error) {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return "", usage("write a host, for example ghcr.io or localhost:5000", "registry %q: %s", host, err)
	}
	if registry.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey, nil
	}
	return registry.RegistryStr(), nil
}

// credentials opens the store that the next command will read: Docker's config,
// or the file that REGISTRY_AUTH_FILE names where there is none.
func credentials() (*configfile.ConfigFile, error) {
	docker := filepath.Join(dockerconfig.Dir(), dockerconfig.ConfigFileName)
	named := os.Getenv("REGISTRY_AUTH_FILE")
	if _, err := os.Stat(docker); err == nil || named == "" {
		return dockerconfig.Load("")
	}
	file := configfile.New(named)
	f, err := os.Open(named) //nolint:gosec // the file that the person names
	if errors.Is(err, os.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return nil, err
	}
	return file, errors.Join(file.LoadFromReader(f), f.Close())
}

func runLogin(ctx context.Context, a *app, o loginOptions, host string) error {
	key, err := credentialKey(host)
	if err != nil {
		return err
	}
	if err := o.ask(ctx, a); err != nil {
		return err
	}
	if err := a.checkLogin(ctx, host, o); err != nil {
		return err
	}
	file, err := credentials()
	if err != nil {
		return err
	}
	auth := dockertypes.AuthConfig{Username: o.user, Password: o.password, ServerAddress: key}
	if err := file.GetCredentialsStore(key).Store(auth); err != nil {
		return fmt.Errorf("%s: %w", file.GetFilename(), err)
	}
	where := file.GetFilename()
	if helper := file.CredentialsStore; helper != "" {
		where = "credential helper " + helper
	}
	_, err = fmt.Fprintf(a.stderr, "logged in to %s as %s; kept in %s\n", host, o.user, where)
	return err
}

// ask reads what the flags did not say, from the terminal or standard input.
func (o *loginOptions) ask(ctx context.Context, a *app) error {
	in := bufio.NewReader(a.stdin)
	file, isFile := a.stdin.(*os.File)
	terminal := isFile && term.IsTerminal(int(file.Fd()))
	if o.user == "" {
		if !terminal {
			return usage("-u NAME --password-stdin", "login wants a user name, and standard input is no terminal")
		}
		if _, err := fmt.Fprint(a.stderr, "Username: "); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		o.user = strings.TrimSpace(line)
	}
	switch {
	case o.password != "":
		return nil
	case o.stdin:
		b, err := io.ReadAll(io.LimitReader(in, 1<<20))
		o.password = strings.TrimRight(string(b), "\r\n")
		if err == nil && o.password == "" {
			return usage("echo \"$TOKEN\" | mabuild login …", "standard input holds no password")
		}
		return err
	case !terminal:
		return usage("-u NAME --password-stdin", "login wants a password, and standard input is no terminal")
	}
	if _, err := fmt.Fprint(a.stderr, "Password: "); err != nil {
		return err
	}
	state, err := term.GetState(int(file.Fd()))
	if err != nil {
		return err
	}
	// A run that is interrupted here must not leave a terminal that is mute.
	defer context.AfterFunc(ctx, func() { _ = term.Restore(int(file.Fd()), state) })()
	b, err := term.ReadPassword(int(file.Fd()))
	o.password = string(b)
	return errors.Join(err, discard(fmt.Fprintln(a.stderr)))
}

func discard(_ int, err error) error { return err }

// checkLogin asks the registry whether it takes the credentials.
func (a *app) checkLogin(ctx context.Context, host string, o loginOptions) error {
	client := a.newClient()
	client.Keychain = only{authn.AuthConfig{Username: o.user, Password: o.password}}
	return client.Login(ctx, host)
}

// only is a keychain of one set of credentials.
type only struct{ authn.AuthConfig }

func (o only) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(o.AuthConfig), nil
}
