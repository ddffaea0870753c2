package main

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/registry"
)

// newManifest returns the group of commands about indexes. manifest push and manifest
// inspect exist for scripts that were written for manifest-tool.
func newManifest(a *app) *cobra.Command {
	l := &targetLogin{}
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Create an index of existing images, or change an index",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	l.bind(cmd.PersistentFlags())
	push := &cobra.Command{
		Use:   "push",
		Short: "Use from-args and from-spec with manifest-tool's spelling",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// manifest-tool has --type before the name of the subcommand.
	kind := push.PersistentFlags().String("type", "", kindUsage)
	push.AddCommand(newFromArgs(a, l, kind), newFromSpec(a, l, kind))
	inspect := newInspect(a, l) // manifest-tool has it here
	inspect.Hidden = true
	cmd.AddCommand(
		inspect, newManifestCreate(a, l), newFromArgs(a, l, nil), newFromSpec(a, l, nil), push,
		newManifestAdd(a, l), newManifestRemove(a, l), newManifestAnnotate(a, l),
	)
	return cmd
}

// A targetLogin has manifest-tool's flags for the connection to the target's registry.
// User name, password and TLS settings apply to that registry and to no other, so that
// the sources' registries never get them. --docker-cfg replaces the credential files for
// all registries.
type targetLogin struct {
	username, password, dockerConfig string
	plainHTTP, insecure              bool
}

// bind adds the flags.
func (l *targetLogin) bind(f *pflag.FlagSet) {
	f.StringVar(&l.username, "username", "", "User `NAME` at the target's registry; prefer mabuild login")
	f.StringVar(&l.password, "password", "", "`PASSWORD` at the target's registry")
	f.StringVar(&l.dockerConfig, "docker-cfg", "", "Read credentials from Docker's configuration `FILE`, or from its directory")
	f.BoolVar(&l.plainHTTP, "plain-http", false, "Allow plain HTTP to the target's registry")
	f.BoolVar(&l.insecure, "insecure", false, "Accept any TLS certificate of the target's registry")
}

// apply changes the client for the registry of target. It must be called before the
// client's first request. A local target has no registry, and an invalid name is reported
// when it is used.
func (l *targetLogin) apply(c *registry.Client, target string) error {
	if local.Is(target) {
		return nil
	}
	ref, err := name.ParseReference(target)
	if err != nil {
		return nil // begin reports it
	}
	host := ref.Context().RegistryStr()
	// --insecure includes plain HTTP.
	if l.plainHTTP || l.insecure {
		h := c.Hosts[host]
		h.PlainHTTP = h.PlainHTTP || l.plainHTTP || l.insecure
		h.SkipVerify = h.SkipVerify || l.insecure
		c.Hosts[host] = h
	}
	if l.dockerConfig != "" && c.Keychain == nil {
		if c.Keychain, err = registry.ConfigKeychain(l.dockerConfig); err != nil {
			return invalid(fmt.Errorf("--docker-cfg: %w", err))
		}
	}
	switch {
	case l.username != "":
		if c.Keychain == nil {
			c.Keychain = registry.DefaultKeychain
		}
		c.Keychain = authn.NewMultiKeychain(logins{host: {Username: l.username, Password: l.password}}, c.Keychain)
	case l.password != "":
		return usage("add --username NAME", "--password requires --username")
	}
	return nil
}

// applyAll calls apply for the registry of each ref, once per registry. l may be nil.
func (l *targetLogin) applyAll(c *registry.Client, refs []string) error {
	if l == nil {
		return nil
	}
	hosts := map[string]bool{}
	for _, ref := range refs {
		parsed, err := name.ParseReference(ref)
		if local.Is(ref) || err != nil || hosts[parsed.Context().RegistryStr()] {
			continue // an invalid name is reported later
		}
		hosts[parsed.Context().RegistryStr()] = true
		if err := l.apply(c, ref); err != nil {
			return err
		}
	}
	return nil
}
