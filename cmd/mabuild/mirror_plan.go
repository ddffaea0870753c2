package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/mirrorfile"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A mirrorFile is the content of a mirror's file, with the state that its runs share.
type mirrorFile struct {
	entries    []*mirror.Entry
	registries map[string]mirrorfile.Registry
	logins     map[string]authn.Basic
	fence      *config.Fence // restricts the paths that the file names

	// limits and claims are shared by the runs of a plan, which may overlap. limits has
	// the pauses and quotas that registries reported, claims the entry of each target.
	limits *registry.Limits
	claims mirror.Claims
}

// loadPlan reads the file and the variables that it names.
func (a *app) loadPlan(o mirrorOptions) (*mirrorFile, error) {
	m, err := a.readPlan(o)
	if err != nil {
		return nil, noFile(o.file, "check -f; mabuild config init mirror writes a first file", err)
	}
	p := &mirrorFile{registries: m.Registries, fence: m.Fence(), limits: &registry.Limits{}}
	if p.logins, err = m.Logins(os.LookupEnv); err != nil {
		return nil, invalid(err)
	}
	if p.entries, err = chosen(m.Plan(), o.only); err != nil {
		return p, err
	}
	for _, e := range p.entries {
		if e.Key == "" {
			continue
		}
		if err := byKeys(&attest.Policy{}, []string{e.Key}); err != nil {
			return p, fmt.Errorf("entry %s: verify.key: %w", e.Name, err)
		}
	}
	return p, nil
}

// readPlan reads the file, or standard input for "-".
func (a *app) readPlan(o mirrorOptions) (*mirrorfile.File, error) {
	if o.file != "-" {
		return mirrorfile.Load(o.file, o.trust)
	}
	data, err := io.ReadAll(io.LimitReader(a.stdin, maxSpec))
	if err != nil {
		return nil, err
	}
	return mirrorfile.Read("stdin", data, o.trust)
}

// succeed lets p replace the plan old after the file was read again. It keeps what
// registries asked for, because a pause that is still running must be respected, but
// forgets it for registries whose limits the file has changed. Runs of the old plan may
// still be active.
func (p *mirrorFile) succeed(old *mirrorFile) {
	p.limits = old.limits
	// Both plans are searched: a host may be new, changed or removed.
	limits := func(p *mirrorFile, host string) [2]int {
		r := p.registries[host]
		return [2]int{r.MaxRequests, r.PerSecond}
	}
	for _, named := range []map[string]mirrorfile.Registry{old.registries, p.registries} {
		for host := range named {
			if limits(p, host) != limits(old, host) {
				p.limits.Forget(host)
			}
		}
	}
}

// runPlan runs the plan of a file once, or with --watch until the run is interrupted.
func runPlan(ctx context.Context, a *app, o mirrorOptions) error {
	p, err := a.loadPlan(o)
	if err != nil {
		return err
	}
	if o.watch {
		return watchPlan(ctx, a, o, p)
	}
	return finishMirror(a, o, o.runOnce(ctx, a, a.placesOf(a.clientFor(p, o), p.fence), nil, p.entries))
}

// clientFor returns the client of one run. For each registry in the file, the settings of
// the file replace those of the configuration, except that an insecure registry stays
// insecure. Logins of the file take precedence over stored credentials.
func (a *app) clientFor(p *mirrorFile, o mirrorOptions) *registry.Client {
	c := a.newClient()
	c.QuotaReserve, c.Limits = o.reserve, p.limits
	for host, r := range p.registries {
		h := hostOf(r.Registry)
		h.MaxRequests, h.PerSecond, h.QuotaReserve = r.MaxRequests, float64(r.PerSecond), r.QuotaReserve
		if slices.Contains(a.config.InsecureRegistries, host) {
			h.PlainHTTP, h.SkipVerify = true, true
		}
		c.Hosts[host] = h
	}
	if len(p.logins) > 0 {
		c.Keychain = authn.NewMultiKeychain(logins(p.logins), registry.DefaultKeychain)
	}
	return c
}

// chosen returns the entries that only names, or all if it is empty. An unknown name is
// an error.
func chosen(entries []*mirror.Entry, only []string) ([]*mirror.Entry, error) {
	if len(only) == 0 {
		return entries, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, usage("the entries are: "+strings.Join(names, ", "), "--only %s: no entry has this name", name)
		}
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e *mirror.Entry) bool { return !slices.Contains(only, e.Name) }), nil
}
