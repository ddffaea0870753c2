package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/serve"
)

type serveOptions struct {
	address string
	dir     string
	hosts   []string
}

func newRegistry(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "Run a registry for a first try",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newServe(a))
	return cmd
}

func newServe(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a registry from a directory until interrupted",
		Long: `Serve a registry from a directory, without TLS and without accounts, on the
loopback interface unless told otherwise. Its address is printed when it is
ready. It is for trying things out, not for keeping them.

It answers only requests that name a loopback host, the IP address at which they
arrive, or a --host, so that web pages of others cannot reach it (DNS rebinding).`,
		Example: "  mabuild registry serve --dir /tmp/registry --address 127.0.0.1:5000",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.startWith(cmd, config.NoFile); err != nil {
				return err
			}
			return runServe(cmd.Context(), a, o)
		},
	}
	cmd.Flags().StringVar(&o.address, "address", "127.0.0.1:5000", "`HOST:PORT` to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&o.dir, "dir", "registry", "`DIR` to keep everything in")
	cmd.Flags().StringSliceVar(&o.hosts, "host", nil, "answer requests to this `NAME`, too (may be repeated)")
	return cmd
}

func runServe(ctx context.Context, a *app, o serveOptions) (err error) {
	a.leaveCache() // it lives for long and wants nothing of the cache
	hosts, err := serve.ParseHosts(o.hosts)
	if err != nil {
		return usage("--host registry.local, for example", "--host: %s", err)
	}
	logger := log.New(a.stderr, "", log.LstdFlags)
	store, err := serve.Open(o.dir, logger)
	if errors.Is(err, serve.ErrInUse) {
		return usage("choose another --dir", "%s", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.address)
	if err != nil {
		return usage("choose another --address; port 0 takes a free one", "%s", err)
	}
	if _, err := fmt.Fprintln(a.stdout, listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	// Being interrupted is how this command ends.
	return serve.Serve(ctx, listener, serve.NewRegistry(store, hosts, logger), logger)
}
