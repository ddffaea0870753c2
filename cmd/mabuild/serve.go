package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/serve"
)

type serveOptions struct {
	address string
	dir     string
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
ready. It is for trying things out, not for keeping them.`,
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
	return cmd
}

func runServe(ctx context.Context, a *app, o serveOptions) error {
	a.leave() // it lives for long and wants nothing of the cache
	handler, err := serve.New(ctx, o.dir, log.New(a.stderr, "", log.LstdFlags))
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", o.address)
	if err != nil {
		return usage("choose another --address; port 0 takes a free one", "%s", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if _, err := fmt.Fprintln(a.stdout, listener.Addr()); err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done(): // being interrupted is how this command ends
		return server.Close()
	}
}
