package main

import (
	"bufio"
	"cmp"
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

	"github.com/mabuild/mabuild/manifest/registry"
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
			host := bareHost(args[0])
			key, err := credentialKey(host)
			if err != nil {
				return err
			}
			file, err := credentials()
			if err != nil {
				return err
			}
			if _, ok := file.GetAuthConfigs()[key]; !ok {
				if stored, err := file.GetCredentialsStore(key).Get(key); err != nil || stored.Username == "" && stored.IdentityToken == "" {
					_, err := fmt.Fprintf(a.stderr, "not logged in to %s\n", host)
					return err
				}
			}
			if err := file.GetCredentialsStore(key).Erase(key); err != nil {
				return unkept(file, key, err)
			}
			_, err = fmt.Fprintf(a.stderr, "logged out of %s\n", host)
			return err
		},
	}
}

// bareHost takes off what is pasted along with the name of a registry: a scheme, a
// path.
func bareHost(text string) string {
	if _, rest, ok := strings.Cut(text, "://"); ok {
		text = rest
	}
	host, _, _ := strings.Cut(text, "/")
	return host
}

// credentialKey is the name under which a registry's credentials are kept:
// Docker's own for its hub, the host otherwise.
func credentialKey(host string) (string, error) {
	n, err := name.NewRegistry(host)
	if err != nil || host == "" {
		return "", usage("write a host, for example ghcr.io or localhost:5000", "%q is no registry", host)
	}
	if n.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey, nil
	}
	return n.RegistryStr(), nil
}

// A credentialError is about the place where credentials are kept, or about those
// that a person just gave.
type credentialError struct {
	err error
	way string
}

func (e *credentialError) Error() string { return e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }
func (e *credentialError) Hint() string  { return e.way }

// unkept says that credentials cannot be kept, or taken away.
func unkept(file *configfile.ConfigFile, key string, err error) error {
	helper := cmp.Or(file.CredentialHelpers[key], file.CredentialsStore)
	if helper == "" {
		return &credentialError{fmt.Errorf("%s: %w", file.GetFilename(), err), "make the file one that can be written"}
	}
	return &credentialError{
		fmt.Errorf("credential helper docker-credential-%s: %w", helper, err),
		"install it, or take it out of " + file.GetFilename() + ", which names it",
	}
}

// credentials opens the store that the next command will read: Docker's config,
// or the file that REGISTRY_AUTH_FILE names where there is none.
func credentials() (*configfile.ConfigFile, error) {
	docker := filepath.Join(dockerconfig.Dir(), dockerconfig.ConfigFileName)
	named := os.Getenv("REGISTRY_AUTH_FILE")
	if _, err := os.Stat(docker); err == nil || named == "" {
		file, err := dockerconfig.Load("")
		if err != nil {
			err = &credentialError{fmt.Errorf("%s: %w", docker, err), "repair " + docker + ", or remove it"}
		}
		return file, err
	}
	file := configfile.New(named)
	f, err := os.Open(named) //nolint:gosec // the file that the person names
	if errors.Is(err, os.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.LoadFromReader(f), f.Close()); err != nil {
		return nil, &credentialError{fmt.Errorf("%s: %w", named, err), "repair " + named + ", or remove it"}
	}
	return file, nil
}

func runLogin(ctx context.Context, a *app, o loginOptions, host string) error {
	host = bareHost(host)
	key, err := credentialKey(host)
	if err != nil {
		return err
	}
	file, err := credentials() // before anybody is asked for a password
	if err != nil {
		return err
	}
	if err := o.ask(ctx, a); err != nil {
		return err
	}
	if err := a.checkLogin(ctx, host, o); err != nil {
		if r := (*registry.Error)(nil); errors.As(err, &r) && r.Kind() == registry.KindCredentials {
			return &credentialError{fmt.Errorf("%s refuses this user name or password: nothing was kept", host), "some registries want a token in place of the password"}
		}
		return err
	}
	auth := dockertypes.AuthConfig{Username: o.user, Password: o.password, ServerAddress: key}
	if err := file.GetCredentialsStore(key).Store(auth); err != nil {
		return unkept(file, key, err)
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
