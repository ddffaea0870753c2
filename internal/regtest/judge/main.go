// Judge is Docker Distribution as a small program, for tests: a registry whose
// word counts, since it refuses a manifest whose blobs or children it does not
// have.
//
// It prints the address that it listens on as its first line on stdout and ends
// when its stdin does, so that no test can leave it behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/sirupsen/logrus"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func main() {
	address := flag.String("addr", "127.0.0.1:0", "listen here")
	dir := flag.String("dir", "", "store in this directory; in memory if empty")
	htpasswd := flag.String("htpasswd", "", "demand Basic credentials of this file (bcrypt)")
	verbose := flag.Bool("v", false, "log to stderr")
	flag.Parse()
	if err := run(*address, *dir, *htpasswd, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func run(address, dir, htpasswd string, verbose bool) error {
	if !verbose {
		logrus.SetOutput(io.Discard)
	}
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory":    nil,
			"delete":      {"enabled": true},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	if dir != "" {
		delete(config.Storage, "inmemory")
		config.Storage["filesystem"] = configuration.Parameters{"rootdirectory": dir}
	}
	if htpasswd != "" {
		config.Auth = configuration.Auth{"htpasswd": {"realm": "judge", "path": htpasswd}}
	}
	config.HTTP.Secret = "the judge has none"
	config.Catalog.MaxEntries = 1000
	config.Validation.Manifests.Indexes.Platforms = "all"
	config.Validation.Manifests.URLs.Allow = []string{"."} // of foreign layers: tests name their own

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{
		Handler:           handlers.NewApp(context.Background(), config),
		ReadHeaderTimeout: time.Minute,
	}
	if !verbose {
		server.ErrorLog = log.New(io.Discard, "", 0)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}
