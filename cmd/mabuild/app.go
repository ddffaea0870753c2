package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/build"
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

	config  *config.Config
	log     *slog.Logger
	client  *registry.Client
	cache   string // the directory, "" for none
	work    string
	adopted bool     // KO_DOCKER_REPO, and said
	ends    []func() // last first
}

// bind adds the flags that every command takes.
func (a *app) bind(flags *pflag.FlagSet) {
	flags.StringVar(&a.file, "config", "", "configuration `FILE` (default: the nearest .mabuild.yaml)")
	flags.CountVarP(&a.verbose, "verbose", "v", "say more; -vv says every request")
	a.profile.bind(flags)
	config.BindGlobal(flags)
}

// start reads the configuration and opens what every command needs.
func (a *app) start(cmd *cobra.Command) (err error) {
	a.config, err = config.Load(config.Options{File: a.file, Flags: cmd.Flags()})
	if err != nil {
		return &usageError{err: err}
	}
	log, stop, err := progress.New(a.stderr, progress.Options{Mode: a.config.Progress, Verbosity: a.verbose, Getenv: os.Getenv})
	if err != nil {
		return &usageError{err: err}
	}
	a.log, a.ends = log, append(a.ends, stop)
	if d := time.Duration(a.config.Timeout); d > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), d, errTimeout)
		cmd.SetContext(ctx)
		a.ends = append(a.ends, cancel)
	}
	a.cache = a.usableCache()
	a.client = a.newClient()
	return nil
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
		a.log.Warn("going on without a cache: " + err.Error())
		return ""
	}
	return dir
}

// workPath is the work directory, for the end that leaves no time.
var workPath atomic.Pointer[string]

// workDir makes the directory that the run's files live in until it ends, and
// sweeps away those of runs that were killed.
func (a *app) workDir() (string, error) {
	if a.work != "" {
		return a.work, nil
	}
	sweepStale()
	dir, err := os.MkdirTemp("", workPrefix)
	if err != nil {
		return "", &build.WorkError{Dir: os.TempDir(), Err: err}
	}
	a.work = dir
	workPath.Store(&dir)
	a.ends = append(a.ends, sweepNow)
	return dir, nil
}

const (
	workPrefix = "mabuild-work-"
	staleAfter = 24 * time.Hour
)

// sweepNow removes the work directory of this run.
func sweepNow() {
	if dir := workPath.Swap(nil); dir != nil {
		_ = os.RemoveAll(*dir) // the next run sweeps what is left
	}
}

// sweepStale removes work directories that no living run has touched for long.
func sweepStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), workPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > staleAfter {
			_ = os.RemoveAll(dir) // another user's, perhaps
		}
	}
}

// close ends what the run opened; more than once is once.
func (a *app) close() {
	for len(a.ends) > 0 {
		end := a.ends[len(a.ends)-1]
		a.ends = a.ends[:len(a.ends)-1]
		end()
	}
}
