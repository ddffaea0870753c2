// Judge is Docker Distribution as a small program, for tests: a registry that decides what
// is valid, since it refuses a manifest if it lacks a blob or an image that the manifest names.
//
// It prints the address that it listens on as its first line on stdout and ends when its
// stdin ends, so it never outlives the test.
//
// With -many it starts no registry at first. It reads commands, one on each line, and
// answers each with a line:
//
//	open [DIR]     starts a registry, and prints its address
//	close ADDRESS  ends that registry, and prints "closed" when no request is left
//
// The registries share only the process.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
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
	many := flag.Bool("many", false, "read commands that open and close registries")
	flag.Parse()
	if !*verbose {
		logrus.SetOutput(io.Discard)
	}
	var err error
	if *many {
		err = obey(os.Stdin)
	} else {
		err = run(*address, *dir, *htpasswd)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

// run runs one registry until stdin ends.
func run(address, dir, htpasswd string) error {
	r, err := open(address, dir, htpasswd)
	if err != nil {
		return err
	}
	fmt.Println(r.address)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return r.close()
}

// obey executes commands until its input ends.
func obey(commands io.Reader) error {
	registries := map[string]*registry{}
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		command, argument, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "open":
			r, err := open("127.0.0.1:0", argument, "")
			if err != nil {
				return err
			}
			registries[r.address] = r
			fmt.Println(r.address)
		case "close":
			r, ok := registries[argument]
			if !ok {
				return fmt.Errorf("no registry listens on %q", argument)
			}
			delete(registries, argument)
			if err := r.close(); err != nil {
				return err
			}
			fmt.Println("closed")
		default:
			return fmt.Errorf("unknown command %q", command)
		}
	}
	return lines.Err()
}

// A registry listens from open to close.
type registry struct {
	address string
	server  *http.Server
	served  chan error
	serving sync.WaitGroup // requests
}

func open(address, dir, htpasswd string) (*registry, error) {
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
	config.Validation.Manifests.URLs.Allow = []string{"."} // of foreign layers, which tests use

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	r := &registry{address: listener.Addr().String(), served: make(chan error, 1)}
	app := handlers.NewApp(context.Background(), config)
	r.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.serving.Add(1)
			defer r.serving.Done()
			app.ServeHTTP(w, req)
		}),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { r.served <- r.server.Serve(listener) }()
	return r, nil
}

// close closes all connections. When it returns, no request is being served.
func (r *registry) close() error {
	err := r.server.Close()
	if served := <-r.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	done := make(chan struct{})
	go func() {
		r.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		err = errors.Join(err, fmt.Errorf("%s still serves a request", r.address))
	}
	return err
}
