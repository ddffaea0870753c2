package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/serve"
)

// serveOptions are the flags of registry serve.
type serveOptions struct {
	address string
	dir     string
	hosts   []string
}

// newRegistry returns the group of commands about a local registry.
func newRegistry(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "Run a registry for tests",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newServe(a))
	return cmd
}

// newServe returns registry serve. It does not read the configuration file of the tree.
func newServe(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a registry from a directory until interrupted",
		Long: `Serve a registry from a directory, without TLS and without accounts, by default on
the loopback interface. Its address is printed when it is ready. Use it for tests,
not for production. A browser at this address shows what the registry holds.

It accepts only requests to a loopback host, to the IP address at which they
arrive, or to a --host. This protects it from other web sites (DNS rebinding).`,
		Example: "  mabuild registry serve --dir /tmp/registry --address 127.0.0.1:5000",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.startWith(cmd, config.NoFile); err != nil {
				return err
			}
			return runServe(cmd.Context(), a, o)
		},
	}
	alike(cmd.Flags(), map[string]string{"listen": "address"}) // as mirror and webhook have it
	cmd.Flags().StringVar(&o.address, "address", "127.0.0.1:5000", "Listen on `HOST:PORT`; port 0 selects a free one")
	cmd.Flags().StringVar(&o.dir, "dir", "registry", "Store the registry in `DIR`")
	cmd.Flags().StringSliceVar(&o.hosts, "host", nil, "Also accept this host `NAME` in requests; repeatable")
	return cmd
}

// runServe serves until ctx ends, which is not an error. The address is printed to
// standard output after the port is open, so that a script can wait for the line; with
// port 0 it is the only way to learn the port.
func runServe(ctx context.Context, a *app, o serveOptions) (err error) {
	a.leaveCache() // it uses no cache, and runs for long
	hosts, err := serve.ParseHosts(o.hosts)
	if err != nil {
		return usage("for example --host registry.local", "--host: %s", err)
	}
	logger := log.New(a.stderr, "", log.LstdFlags)
	store, err := serve.Open(o.dir, logger)
	if errors.Is(err, serve.ErrInUse) {
		return usage("use another --dir", "%s", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if !strings.Contains(o.address, ":") {
		return usage("for example --address 127.0.0.1:5000", "--address %q: must be HOST:PORT", o.address)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.address)
	if err != nil {
		return usage("use another --address; port 0 selects a free one", "%s", err)
	}
	if _, err := fmt.Fprintln(a.stdout, listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	// Being interrupted is the normal end of this command.
	return serve.Serve(ctx, listener, serve.NewRegistry(store, hosts, logger), logger)
}
