package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mabuild/mabuild/internal/authfile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/registry"
)

// loginOptions are the flags of login; ask fills the rest.
type loginOptions struct {
	user     string
	password string
	stdin    bool
}

// newLogin returns the command login.
func newLogin(a *app) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login HOST",
		Short: "Check and store the credentials of a registry",
		Long: `Check the credentials of a registry and store them for later commands. They are
stored in the file that REGISTRY_AUTH_FILE names. If it is not set, they are
stored in Docker's config.json, or in Podman's auth.json if only that exists. If
the file names a credential helper, the helper stores them. A file of Podman's
also accepts HOST/NAMESPACE, for the repositories below.`,
		Example: "  echo \"$TOKEN\" | mabuild login ghcr.io -u acme --password-stdin",
		Args:    exactlyOne("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runLogin(cmd.Context(), a, o, args[0])
		},
	}
	cmd.Flags().StringVarP(&o.user, "username", "u", "", "User name")
	cmd.Flags().StringVarP(&o.password, "password", "p", "", "Password; other users of this machine can see it")
	cmd.Flags().BoolVar(&o.stdin, "password-stdin", false, "Read the password from stdin")
	cmd.MarkFlagsMutuallyExclusive("password", "password-stdin")
	return cmd
}

// newLogout returns the command logout.
func newLogout(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout HOST",
		Short: "Remove the credentials of a registry",
		Long: `Remove the credentials that the next command would use for a registry. If another
file also has credentials for it, mabuild prints its name.`,
		Args: exactlyOne("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogout(cmd.Context(), a, args[0])
		},
	}
}

// loginName parses HOST or HOST/NAMESPACE. It returns the host and the key of both in a
// credentials file, which has one fixed spelling for Docker Hub. A scheme and the path of
// the API (/v1, /v2) are dropped, since users paste them.
func loginName(text string) (host, entry string, err error) {
	rest := text
	if _, after, ok := strings.Cut(text, "://"); ok {
		rest = after
	}
	// The path of the API is not a namespace.
	host, path, _ := strings.Cut(rest, "/")
	if path = strings.Trim(path, "/"); path == "v1" || path == "v2" {
		path = ""
	}
	if _, err := name.NewRegistry(host); err != nil || host == "" {
		return "", "", usage("write a host, for example ghcr.io or localhost:5000", "%q is not a registry", host)
	}
	entry = authfile.Canonical(host)
	if path == "" {
		return host, entry, nil
	}
	if _, err := name.NewRepository(host + "/" + path); err != nil {
		return "", "", usage("write a host, for example ghcr.io or localhost:5000", "%q is not a registry", rest)
	}
	return host, entry + "/" + path, nil
}

// hostsAlone words the refusal of a namespace, if err is one.
func hostsAlone(host, entry string, err error) error {
	if !errors.Is(err, authfile.ErrHostsAlone) {
		return err
	}
	knows := "Docker's config.json supports only hosts"
	if as[*authfile.HelperError](err) {
		knows = "credential helpers support only hosts"
	}
	return usage("use "+host+", or use a file of Podman's: REGISTRY_AUTH_FILE=FILE", "%s is not a host: %s", entry, knows)
}

// loginFile opens the file in which login stores credentials.
func loginFile() (*authfile.File, error) {
	place, err := authfile.ForLogin(authfile.Places(os.Getenv))
	if err != nil {
		return nil, &hint.Error{Kind: hint.Credentials, Err: err}
	}
	return authfile.Open(place)
}

// runLogin checks and stores credentials. It opens the file before it asks for a
// password, and stores nothing that the registry rejects.
func runLogin(ctx context.Context, a *app, o loginOptions, text string) error {
	host, entry, err := loginName(text)
	if err != nil {
		return err
	}
	file, err := loginFile()
	if err != nil {
		return err
	}
	if err := file.Takes(entry); err != nil {
		return hostsAlone(host, entry, err)
	}
	if err := o.ask(ctx, a); err != nil {
		return err
	}
	if err := a.checkLogin(ctx, host, o); err != nil {
		// Only 401 says that the credentials are wrong; after other errors they may be
		// right.
		if r := (*registry.Error)(nil); errors.As(err, &r) && r.Kind() == registry.KindUnauthorized {
			return hint.New(hint.Credentials, "some registries require a token instead of the password", "%s rejected this user name or password; nothing was stored", host)
		}
		return err
	}
	where, err := file.Keep(ctx, entry, o.user, o.password)
	if err != nil {
		return err
	}
	if entry != authfile.Canonical(host) {
		host = entry
	}
	_, err = fmt.Fprintf(a.stderr, "logged in to %s as %s; stored in %s\n", host, o.user, where)
	return err
}

// runLogout removes the credentials that the next command would use: those of the first
// file that has any. It names other files with credentials for the host, since after
// logout they would be used; removing them without being asked could break other tools.
func runLogout(ctx context.Context, a *app, text string) error {
	host, entry, err := loginName(text)
	if err != nil {
		return err
	}
	var done bool
	var left []string
	for _, place := range authfile.Places(os.Getenv) {
		file, err := authfile.Open(place)
		if err != nil {
			return err
		}
		holds, err := file.Holds(ctx, entry)
		switch {
		case err != nil:
			return err
		case holds && done:
			left = append(left, file.Path)
		case holds:
			if err := file.Forget(ctx, entry); err != nil {
				return err
			}
			done = true
		}
	}
	if entry != authfile.Canonical(host) {
		host = entry
	}
	switch {
	case done && len(left) > 0:
		_, err = fmt.Fprintf(a.stderr, "logged out of %s; %s still has credentials for it\n", host, strings.Join(left, " and "))
	case done:
		_, err = fmt.Fprintf(a.stderr, "logged out of %s\n", host)
	default:
		// Nothing is stored. If no file could hold the name, that is the more useful
		// answer.
		var file *authfile.File
		if file, err = loginFile(); err == nil {
			err = hostsAlone(host, entry, file.Takes(entry))
		}
		if err == nil {
			_, err = fmt.Fprintf(a.stderr, "not logged in to %s\n", host)
		}
	}
	return err
}

// ask reads user name and password, as far as flags did not give them, from the terminal
// or standard input. The password on standard input is at most 1 MiB; line breaks at its
// end are removed. Prompts go to standard error.
func (o *loginOptions) ask(ctx context.Context, a *app) error {
	// A terminal delivers one line per read, so this reader holds nothing back that
	// ReadPassword, which reads from the file, would need.
	in := bufio.NewReader(a.stdin)
	file, isFile := a.stdin.(*os.File)
	terminal := isFile && term.IsTerminal(int(file.Fd()))
	if o.user == "" {
		if !terminal {
			return usage("use -u NAME --password-stdin", "login requires a user name, and stdin is not a terminal")
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
			return usage("echo \"$TOKEN\" | mabuild login …", "no password on stdin")
		}
		return err
	case !terminal:
		return usage("use -u NAME --password-stdin", "login requires a password, and stdin is not a terminal")
	}
	var err error
	o.password, err = a.readPassword(ctx, file, "Password: ")
	return err
}

// readPassword reads a password from the terminal, without echo.
func (a *app) readPassword(ctx context.Context, terminal *os.File, prompt string) (string, error) {
	if _, err := fmt.Fprint(a.stderr, prompt); err != nil {
		return "", err
	}
	state, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return "", err
	}
	// If the run is interrupted during ReadPassword, the terminal must get its echo back.
	defer context.AfterFunc(ctx, func() { _ = term.Restore(int(terminal.Fd()), state) })()
	b, err := term.ReadPassword(int(terminal.Fd()))
	return string(b), errors.Join(err, discard(fmt.Fprintln(a.stderr)))
}

// discard returns only the error of a print function.
func discard(_ int, err error) error { return err }

// checkLogin asks the registry to accept the credentials, without those stored for it.
func (a *app) checkLogin(ctx context.Context, host string, o loginOptions) error {
	client := a.newClient()
	client.Keychain = logins{"": {Username: o.user, Password: o.password}}
	return client.Login(ctx, host)
}

// logins are credentials by host, as a keychain. Those of "" are for every registry.
type logins map[string]authn.Basic

// Resolve returns the credentials of a registry, or anonymous ones if there are none, so
// that the next keychain is asked. Docker Hub has two names, and users write docker.io.
func (l logins) Resolve(r authn.Resource) (authn.Authenticator, error) {
	hosts := []string{r.RegistryStr(), ""}
	if hosts[0] == name.DefaultRegistry {
		hosts = slices.Insert(hosts, 1, "docker.io")
	}
	for _, host := range hosts {
		if login, ok := l[host]; ok {
			return &login, nil
		}
	}
	return authn.Anonymous, nil
}
