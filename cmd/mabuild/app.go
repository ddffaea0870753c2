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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/claim"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/download"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/progress"
	"github.com/mabuild/mabuild/manifest/registry"
)

// An app is the state that the commands share: their input and output, the configuration,
// and the one client of all registries. There is one for each process. A command calls
// start before it uses the fields below config, and close at the end.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	file    string // --config
	verbose int
	quiet   bool
	chdir   string // -C
	profile profiles

	config     *config.Config
	log        *slog.Logger
	client     *registry.Client
	files      *download.Client // nil until something is downloaded
	cache      string           // its directory; "" if there is none
	key        []byte           // secret of the cache's records; see cacheKey
	keyed      sync.Once
	leaveCache func()      // releases the entries that the run has used
	grown      atomic.Bool // a program was compiled, so the cache may be too large
	work       string      // the work directory; "" until it is needed
	removeWork atomic.Pointer[func()]
	archives   *places.Archives // those that are open
	ends       []func()         // what close calls, the last first
	outcome    string           // last line on standard error after an error; may be empty

	mu       sync.Mutex // guards work, archives and ends
	building sync.Mutex // held while a mirror compiles a program
}

// bind adds the flags that every command has.
func (a *app) bind(flags *pflag.FlagSet) {
	flags.StringVar(&a.file, "config", "", "Read the configuration file `FILE` (default: the nearest .mabuild.yaml)")
	flags.StringVarP(&a.chdir, "directory", "C", "", "Work in `DIR`, as if mabuild had been started there")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "Show no progress, only warnings and errors; the same as --progress none")
	flags.CountVarP(&a.verbose, "verbose", "v", "Log decisions and the output of tools; -vv also logs every request")
	a.profile.bind(flags)
	config.BindGlobal(flags)
}

// enter applies the flags that must hold before anything is read: -C and -q.
func (a *app) enter(flags *pflag.FlagSet) error {
	if flags.Changed("directory") {
		if err := os.Chdir(a.chdir); err != nil {
			return usage("name a directory", "-C: %s", err)
		}
	}
	if !a.quiet {
		return nil
	}
	if flags.Changed("progress") {
		return usage("use only one of them", "--quiet and --progress cannot be used together")
	}
	return flags.Set("progress", "none")
}

// start loads the configuration of a command that does not build, and opens what every
// command needs.
func (a *app) start(cmd *cobra.Command) error { return a.startWith(cmd, config.Access) }

// startWith is start with a choice of keys. The order matters: the log needs the
// configuration, and everything after it may log. The timeout begins here and replaces
// the command's context, so callers take the context from cmd afterwards. If it fails,
// close still ends what was opened until then.
func (a *app) startWith(cmd *cobra.Command, keys config.Keys) (err error) {
	a.config, err = config.Load(config.Options{File: a.file, Flags: cmd.Flags(), Keys: keys, Environ: os.Environ})
	if err != nil && slices.Contains([]string{".ko.yaml", ".ko.yml", "ko.yaml"}, filepath.Base(a.file)) {
		return &hint.Error{Kind: hint.Usage, Err: err, Hint: "mabuild config import " + a.file + " converts a file of ko"}
	}
	if err != nil {
		return noFile(a.file, "check --config and MABUILD_CONFIG; mabuild config init writes a first file", err)
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
	// Entries are released before the cache is pruned, or they would count as in use.
	a.leaveCache = a.holdCache(ctx)
	a.ends = append(a.ends, func() {
		a.leaveCache()
		a.bound(ctx)
	})
	a.client = a.newClient()
	return nil
}

// certificates checks the files of --ca-file, --client-cert and --client-key. The client
// also reads them, but here an error comes before any work and names the flag.
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

// errTimeout is the cause of a context that --timeout ended.
var errTimeout = hint.New(hint.Build, "raise --timeout and run it again; what was stored is not sent again", "the run took longer than --timeout allows")

// newClient returns a client for all registries. A client remembers what it saw for one
// run, so mirror --watch creates one for each run. An insecure registry also keeps its
// other settings.
func (a *app) newClient() *registry.Client {
	c := a.config
	hosts := map[string]registry.Host{}
	for host, r := range c.Registries {
		hosts[host] = hostOf(r)
	}
	// The list adds to the other settings of a host, and overrides them.
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

// hostOf converts the settings of a registry.
func hostOf(r config.Registry) registry.Host {
	return registry.Host{
		PlainHTTP: r.PlainHTTP, SkipVerify: r.SkipVerify, Mirrors: r.Mirrors,
		CAFile: r.CAFile, ClientCert: r.ClientCert, ClientKey: r.ClientKey,
	}
}

// cacheDir returns the configured cache directory, or mabuild in the user's cache
// directory. It returns "" if there is none.
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

// usableCache returns the cache directory if it can be used. Otherwise it warns and
// returns "": the cache only saves work, so a run continues without it.
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

// workDir returns the directory for the temporary files of this run, and creates it when
// it is first called.
func (a *app) workDir(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.work != "" {
		return a.work, nil
	}
	dir, remove, err := claim.Temp(ctx, "mabuild-work-", a.log)
	if err != nil {
		return "", hint.New(hint.Build, "set TMPDIR to use another directory", "work directory %s: %w", os.TempDir(), err)
	}
	a.work = dir
	a.removeWork.Store(&remove)
	a.ends = append(a.ends, remove)
	return dir, nil
}

// sweep removes the work directory of a run that is about to exit. It takes no lock, which
// the run may hold.
func (a *app) sweep() {
	if remove := a.removeWork.Load(); remove != nil {
		(*remove)()
	}
}

// close undoes start in reverse order. Calling it again does nothing. It is called before
// the result is printed, because the rows of the progress display must be gone by then.
func (a *app) close() {
	for len(a.ends) > 0 {
		end := a.ends[len(a.ends)-1]
		a.ends = a.ends[:len(a.ends)-1]
		end()
	}
}

// places returns the store of all places with the run's client and no restriction of
// paths.
func (a *app) places() places.Store { return a.placesOf(a.client, nil) }

// placesOf returns a store with another client, and the fence of a file of a tree. All
// stores of the process share the open archives.
func (a *app) placesOf(client *registry.Client, fence *config.Fence) places.Store {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.archives == nil {
		a.archives = &places.Archives{Scratch: a.workDir}
		a.ends = append(a.ends, a.archives.Close)
	}
	s := places.Store{Registry: client, Archives: a.archives}
	if fence != nil {
		s.Within = fence.CheckPlace
	}
	return s
}
