package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/progress"
	"github.com/mabuild/mabuild/manifest/registry"
)

// An app is what the commands share: where they write, what was configured, and
// the one client of all registries.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	file    string // --config
	verbose int
	profile profiles

	config     *config.Config
	log        *slog.Logger
	client     *registry.Client
	cache      string // the directory, "" for none
	key        []byte // of what the cache remembers; see cacheKey
	keyed      sync.Once
	leaveCache func()      // the cache: what the run found there may be pruned
	grown      atomic.Bool // the cache may have, by a program
	work       string      // the work directory, "" before it is wanted
	sources    *sources    // of the archives that are read
	adopted    sync.Once   // KO_DOCKER_REPO, which is said
	ends       []func()    // last first

	mu       sync.Mutex // guards work, sources and ends
	building sync.Mutex // held while a mirror builds a program
}

// bind adds the flags that every command takes.
func (a *app) bind(flags *pflag.FlagSet) {
	flags.StringVar(&a.file, "config", "", "Read the configuration file `FILE` (default: the nearest .mabuild.yaml)")
	flags.CountVarP(&a.verbose, "verbose", "v", "Log decisions and the output of tools; -vv also logs every request")
	a.profile.bind(flags)
	config.BindGlobal(flags)
}

// start reads what the configuration says of registries, cache and progress, and
// opens what every command needs.
func (a *app) start(cmd *cobra.Command) error { return a.startWith(cmd, config.Access) }

// startWith is start that reads these keys.
func (a *app) startWith(cmd *cobra.Command, keys config.Keys) (err error) {
	a.config, err = config.Load(config.Options{File: a.file, Flags: cmd.Flags(), Keys: keys, Environ: os.Environ})
	if err != nil {
		return invalid(err)
	}
	log, stop, err := progress.New(a.stderr, progress.Options{Mode: a.config.Progress, Verbosity: a.verbose, Getenv: os.Getenv})
	if err != nil {
		return invalid(err)
	}
	a.log, a.ends = log, append(a.ends, stop)
	for _, ignored := range a.config.Ignored {
		a.log.WarnContext(cmd.Context(), ignored.Error())
	}
	if err := a.certificates(); err != nil {
		return err
	}
	if d := time.Duration(a.config.Timeout); d > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), d, errTimeout)
		cmd.SetContext(ctx)
		a.ends = append(a.ends, cancel)
	}
	a.cache = a.usableCache()
	a.log.DebugContext(cmd.Context(), "settings", "file", cmp.Or(a.config.File, "none"), "cache", cmp.Or(a.cache, "none"))
	ctx := cmd.Context()
	a.leaveCache = a.holdCache(ctx)
	a.ends = append(a.ends, func() {
		a.leaveCache()
		a.bound(ctx)
	})
	a.client = a.newClient()
	return nil
}

// certificates refuses files of certificates that cannot be used.
func (a *app) certificates() error {
	c := a.config
	var errs []error
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s: the file contains no certificate", c.CAFile)
		}
		if err != nil {
			errs = append(errs, usage("use a PEM file of certificate authorities", "--ca-file: %s", err))
		}
	}
	switch {
	case c.ClientCert == "" && c.ClientKey != "":
		errs = append(errs, usage("add --client-cert FILE", "--client-key requires --client-cert"))
	case c.ClientCert != "":
		_, err := tls.LoadX509KeyPair(c.ClientCert, cmp.Or(c.ClientKey, c.ClientCert))
		switch {
		case err != nil && c.ClientKey == "" && !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, usage("add --client-key FILE", "--client-cert requires --client-key: %s contains no key", c.ClientCert))
		case err != nil:
			errs = append(errs, usage("use PEM files of a certificate and its key", "--client-cert, --client-key: %s", err))
		}
	}
	return errors.Join(errs...)
}

// errTimeout is why a run ended that took longer than --timeout.
var errTimeout = errors.New("the run took longer than --timeout allows")

// newClient makes the client of all registries.
func (a *app) newClient() *registry.Client {
	c := a.config
	hosts := map[string]registry.Host{}
	for host, r := range c.Registries {
		hosts[host] = hostOf(r)
	}
	for _, host := range c.InsecureRegistries {
		h := hosts[host]
		h.PlainHTTP, h.SkipVerify = true, true
		hosts[host] = h
	}
	return &registry.Client{
		Hosts: hosts, CAFile: c.CAFile, ClientCert: c.ClientCert, ClientKey: c.ClientKey,
		TrustRealms: c.TrustRealms, CacheDir: a.cache, UserAgent: "mabuild/" + strings.Trim(versionText(), "()"), Log: a.log,
	}
}

// hostOf is what the configuration says of a registry.
func hostOf(r config.Registry) registry.Host {
	return registry.Host{
		PlainHTTP: r.PlainHTTP, SkipVerify: r.SkipVerify, Mirrors: r.Mirrors,
		CAFile: r.CAFile, ClientCert: r.ClientCert, ClientKey: r.ClientKey,
	}
}

// cacheDir is the configured cache, or mabuild's in the user's cache directory;
// "" where there is none.
func (a *app) cacheDir() string {
	if a.config.Cache.Dir != "" {
		return a.config.Cache.Dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "mabuild")
}

// usableCache is the cache if it can be used, else "", said once.
func (a *app) usableCache() string {
	dir := a.cacheDir()
	if dir == "" {
		return ""
	}
	if _, err := cache.Open(dir); err != nil {
		a.log.Warn("continuing without a cache: " + err.Error())
		return ""
	}
	return dir
}

// close ends what the run opened; more than once is once.
func (a *app) close() {
	for len(a.ends) > 0 {
		end := a.ends[len(a.ends)-1]
		a.ends = a.ends[:len(a.ends)-1]
		end()
	}
}
