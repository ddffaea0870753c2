package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/debian"
	"github.com/mabuild/mabuild/internal/download"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/lockfile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A PackageSet is the Debian packages of a build for an architecture of Debian.
type PackageSet struct {
	lockfile.Resolution
	Platforms []ocispec.Platform // with this architecture
	Build     config.Build

	snapshot time.Time
	url      string // of the archive
}

// packageID returns the id of a build in the lines of packages, "" if it has none.
func packageID(c config.Build) string {
	if c.IsPrebuilt() {
		return idOf(c)
	}
	return c.ID
}

// shownID returns an id for errors.
func shownID(id string) string { return cmp.Or(id, "the builds without an id") }

// PackageSets returns the packages of builds. Builds without an id share theirs.
func PackageSets(builds []config.Build) ([]PackageSet, error) {
	var all []PackageSet
	var errs []error
	for _, c := range builds {
		list, err := packageSetsOf(c)
		if err != nil {
			err = fmt.Errorf("packages: %w", err)
			if id := packageID(c); id != "" {
				err = fmt.Errorf("%s: %w", id, err)
			}
		}
		errs = append(errs, err)
		for _, s := range list {
			i := slices.IndexFunc(all, func(o PackageSet) bool { return o.ID == s.ID && o.Architecture == s.Architecture })
			switch {
			case i < 0:
				all = append(all, s)
			case all[i].Resolution != s.Resolution:
				errs = append(errs, usage("give each its own id", "two builds have different packages, and both are %s", shownID(s.ID)))
			}
		}
	}
	return all, errors.Join(errs...)
}

// packageSetsOf returns the packages of a build, by architecture.
func packageSetsOf(c config.Build) ([]PackageSet, error) {
	of := c.Packages
	switch {
	case len(of.Install) == 0:
		return nil, nil
	case of.Debian.Suite == "":
		return nil, usage("for example debian: {suite: trixie, mirror: URL}", "debian.suite is not set")
	case of.Debian.Mirror == "":
		return nil, usage("a Debian machine has the URL of one in /etc/apt/sources.list", "debian.mirror is not set")
	case slices.Contains(c.Platforms, "all"):
		return nil, usage("list the platforms", "platforms: all cannot be used with packages")
	}
	one := PackageSet{Build: c, url: strings.TrimRight(of.Debian.Mirror, "/")}
	if _, err := download.CheckArchive(one.url); err != nil {
		return nil, fmt.Errorf("debian.mirror: %w", err)
	}
	if of.Debian.Snapshot != "" {
		var err error
		if one.snapshot, err = debian.ParseSnapshot(of.Debian.Snapshot); err != nil {
			return nil, err
		}
		one.url += "/" + of.Debian.Snapshot
	}
	install := slices.Clone(of.Install)
	slices.Sort(install)
	platforms, err := platform.ParseList(c.Platforms)
	if err != nil {
		return nil, err
	}
	sets := map[string]PackageSet{} // by architecture
	var errs []error
	for _, p := range platforms {
		name, err := debian.Architecture(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		set, ok := sets[name]
		if !ok {
			set = one
			set.Resolution = lockfile.Resolution{
				ID: packageID(c), Architecture: name, Suite: of.Debian.Suite, Snapshot: of.Debian.Snapshot,
				Components: strings.Join(components(c), " "), Install: strings.Join(slices.Compact(install), " "),
			}
		}
		set.Platforms = append(set.Platforms, p)
		sets[name] = set
	}
	var list []PackageSet
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		list = append(list, sets[name])
	}
	return list, errors.Join(errs...)
}

// components returns the components of the archive of a build.
func components(c config.Build) []string {
	if len(c.Packages.Debian.Components) == 0 {
		return []string{"main"}
	}
	return c.Packages.Debian.Components
}

// find returns the packages that a lock has for a set, or the reason why it does not fit.
func (s PackageSet) find(lock lockfile.File) (list []lockfile.Package, reason string) {
	i := slices.IndexFunc(lock.Resolved, func(r lockfile.Resolution) bool { return r.ID == s.ID && r.Architecture == s.Architecture })
	if i < 0 && s.ID == "" {
		// A PACKAGE argument has the settings of the top level, as builds of the file may have.
		if i = slices.IndexFunc(lock.Resolved, func(r lockfile.Resolution) bool { r.ID = ""; return r == s.Resolution }); i >= 0 {
			s.ID = lock.Resolved[i].ID
		}
	}
	if i < 0 {
		return nil, fmt.Sprintf("no packages for %s of %s", s.Architecture, shownID(s.ID))
	}
	if was := lock.Resolved[i]; was != s.Resolution {
		return nil, fmt.Sprintf("the packages for %s of %s were chosen for other settings: %s", s.Architecture, shownID(s.ID), difference(was, s.Resolution))
	}
	for _, l := range lock.Packages {
		if l.ID == s.ID && l.Architecture == s.Architecture {
			list = append(list, l)
		}
	}
	return list, ""
}

// Locked returns the packages that a lock has for a set, and whether it fits the set. A
// package of install that has no line may be one of the base image, or was lost in a merge:
// the set is resolved again.
func (s PackageSet) Locked(lock lockfile.File) (list []lockfile.Package, fits bool) {
	list, reason := s.find(lock)
	for name := range strings.FieldsSeq(s.Install) {
		if !slices.ContainsFunc(list, func(p lockfile.Package) bool { return p.Package == name }) {
			return list, false
		}
	}
	return list, reason == ""
}

// difference names the first setting that differs.
func difference(was, is lockfile.Resolution) string {
	for _, one := range []struct{ key, was, is string }{
		{"suite", was.Suite, is.Suite}, {"snapshot", was.Snapshot, is.Snapshot}, {"components", was.Components, is.Components}, {"install", was.Install, is.Install},
	} {
		if one.was != one.is {
			return fmt.Sprintf("%s was %q and is %q", one.key, one.was, one.is)
		}
	}
	return ""
}

// debs returns the packages of a set as a build takes them.
func (s PackageSet) debs(list []lockfile.Package) ([]build.DebianPackage, error) {
	var all []build.DebianPackage
	for _, l := range list {
		if err := debian.CheckPath(l.Path); err != nil {
			return nil, usage(debian.ChooseAgain, "%s: %s: %w", lockfile.Name, l.Package, err)
		}
		all = append(all, build.DebianPackage{Name: l.Package, Version: l.Version, Architecture: s.Architecture, URL: s.url + "/" + l.Path, SHA256: l.SHA256})
	}
	return all, nil
}

// addPackages adds the packages of a build, which the lock has, to a spec.
func (p *Planner) addPackages(c config.Build, s *build.Spec) error {
	if len(c.Packages.Install) == 0 {
		return nil
	}
	sets, err := packageSetsOf(c)
	if err != nil {
		return fmt.Errorf("packages: %w", err)
	}
	lock, err := p.lock()
	if err != nil {
		return err
	}
	s.Packages, s.PackageScripts, s.PackageDocs = map[string][]build.DebianPackage{}, c.Packages.Scripts, c.Packages.Docs
	s.PackageRoots = slices.Compact(slices.Sorted(slices.Values(c.Packages.Install)))
	var errs []error
	for _, set := range sets {
		list, reason := set.find(lock)
		if reason != "" {
			errs = append(errs, usage(runLock, "%s: %s", lockfile.Name, reason))
			continue
		}
		debs, err := set.debs(list)
		errs = append(errs, err)
		for _, one := range set.Platforms {
			s.Packages[platform.Key(one)] = debs
		}
	}
	return errors.Join(errs...)
}

// A Resolver chooses packages from archives. It is used by one goroutine.
type Resolver struct {
	Planner  *Planner
	Files    *download.Client
	Work     string             // an existing directory
	Unsigned bool               // archives need no signature
	Known    []lockfile.Package // that were checked before

	archives map[string]*debian.Archive // by their settings
}

// Resolve returns the lines of the packages of a set: those that install names and those that
// they depend on, without what the base images have. Each package is downloaded, and its
// scripts are compared with the rules.
func (r *Resolver) Resolve(ctx context.Context, s PackageSet) ([]lockfile.Package, error) {
	x, err := r.archive(s).Index(ctx, s.Architecture)
	if err != nil {
		return nil, err
	}
	c := s.Build
	status, err := r.Planner.Builder.BaseStatus(ctx, build.Spec{Platforms: s.Platforms, Base: c.Base.Default(), Bases: c.Base})
	if err != nil {
		return nil, err
	}
	var lines []lockfile.Package
	for _, p := range s.Platforms {
		base := &debian.System{}
		if err := base.AddBase(status[platform.Key(p)], s.Architecture); err != nil {
			return nil, err
		}
		list, err := x.Resolve(strings.Fields(s.Install), base)
		if err != nil {
			return nil, err
		}
		for _, one := range list {
			l := lockfile.Package{ID: s.ID, Architecture: s.Architecture, Package: one.Name, Version: one.Version, Path: one.Path, SHA256: one.SHA256}
			if !slices.Contains(lines, l) {
				lines = append(lines, l)
			}
		}
	}
	return lines, r.check(ctx, s, lines)
}

// archive returns the archive of a set.
func (r *Resolver) archive(s PackageSet) *debian.Archive {
	of := s.Build.Packages.Debian
	key := fmt.Sprintf("%q", []string{s.url, s.Suite, s.Components, of.Keyring})
	if a, ok := r.archives[key]; ok {
		return a
	}
	a := &debian.Archive{
		URL: s.url, Suite: s.Suite, Components: components(s.Build), Snapshot: s.snapshot, Keyring: of.Keyring, Unsigned: r.Unsigned,
		Work: r.Work, Text: r.Files.ArchiveText, Get: r.Files.ArchiveFile,
	}
	if r.archives == nil {
		r.archives = map[string]*debian.Archive{}
	}
	r.archives[key] = a
	return a
}

// check downloads packages that are not known and checks them. It joins the errors.
func (r *Resolver) check(ctx context.Context, s PackageSet, lines []lockfile.Package) error {
	errs := make([]error, len(lines))
	var group errgroup.Group
	group.SetLimit(4)
	for i, l := range lines {
		if slices.Contains(r.Known, l) {
			continue
		}
		group.Go(func() error {
			errs[i] = r.checkOne(ctx, s, l)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errors are in errs
	return errors.Join(errs...)
}

// checkOne is check for one package.
func (r *Resolver) checkOne(ctx context.Context, s PackageSet, l lockfile.Package) error {
	from := s.url + "/" + l.Path
	file, err := r.Files.ArchiveFile(ctx, from, l.SHA256)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	var scripts error
	if err := debian.Read(f, func(d *debian.Deb) error {
		scripts = d.CheckScripts(l.Package, s.Build.Packages.Scripts)
		return d.Is(l.Package, l.Version, l.Architecture)
	}, func(_ debian.File, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	}); err != nil {
		return hint.New(hint.Content, "", "%s: %w", from, err)
	}
	return scripts
}
