package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/mabuild/mabuild/internal/yamlconf"
)

// Programs returns the builds for the PACKAGE arguments of a command, in the order of the
// arguments. Without arguments it returns every build of the file. An argument that is
// the package of a build means that build, with all its settings; several builds may have
// the same package. Any other argument becomes a build with the settings of the top
// level. A prebuilt program is no package, so only a call without arguments returns it.
// Two packages are the same if locate returns one directory for both.
func (c *Config) Programs(packages []string, locate func(dir, pkg string) string) []Build {
	if len(packages) == 0 {
		return slices.Clone(c.Builds)
	}
	var list []Build
	of := make([]string, len(c.Builds))
	for i, b := range c.Builds {
		if !b.IsPrebuilt() {
			of[i] = locate(b.Dir, b.Main)
		}
	}
	for _, pkg := range packages {
		found, at := false, locate(c.workdir, pkg)
		for i, b := range c.Builds {
			if !b.IsPrebuilt() && (b.Main == pkg && !IsLocal(pkg) || of[i] == at) {
				list, found = append(list, b), true
			}
		}
		if !found {
			list = append(list, Build{Main: pkg, Dir: c.workdir, Settings: c.Settings})
		}
	}
	return list
}

// PathOf returns the absolute path of pkg, relative to dir, as if it were a directory. It
// does not follow links.
func PathOf(dir, pkg string) string {
	if !filepath.IsAbs(pkg) {
		pkg = filepath.Join(dir, pkg)
	}
	if abs, err := filepath.Abs(pkg); err == nil {
		return abs
	}
	return pkg
}

// IsLocal reports whether pkg is a directory rather than an import path, by the rule of
// the go command (build.IsLocalImport).
func IsLocal(pkg string) bool {
	return filepath.IsAbs(pkg) || pkg == "." || pkg == ".." || len(pkg) > 1 && pkg[:2] == "./" || len(pkg) > 2 && pkg[:3] == "../"
}

// uniqueIDs returns an error for each build with the id of an earlier one, since both
// would be pushed to the same repository.
func (c *Config) uniqueIDs(lines map[string]int) error {
	first := map[string]int{}
	var errs []error
	for i, b := range c.Builds {
		key := fmt.Sprintf("builds[%d].id", i)
		if line, again := first[b.ID]; again && b.ID != "" {
			errs = append(errs, yamlconf.InFile(c.File, lines[key], key, fmt.Errorf("%q is a duplicate of line %d", yamlconf.Shorten(b.ID), line)))
			continue
		}
		first[b.ID] = lines[key]
	}
	return errors.Join(errs...)
}

// goKeys are the keys of a build that only a Go package has.
var goKeys = []string{"main", "ldflags", "gcflags", "build_tags", "env", "cgo", "symbols", "race", "cover", "pgo", "overrides"}

// prebuiltKeys returns an error for each key of a prebuilt program that would have no effect.
// Those that it inherits are ignored.
func (c *Config) prebuiltKeys(lines map[string]int) error {
	var errs []error
	for i, b := range c.Builds {
		for _, name := range goKeys {
			key := fmt.Sprintf("builds[%d].%s", i, name)
			if line, said := lines[key]; said && b.IsPrebuilt() {
				errs = append(errs, yamlconf.InFile(c.File, line, key, errors.New("does not apply to a prebuilt program")))
			}
		}
	}
	return errors.Join(errs...)
}

// Prebuilt returns the build of a prebuilt program that the user names, with the settings of
// the top level.
func (c *Config) Prebuilt(path string) Build {
	return Build{Prebuilt: Prebuilt{Path: path}, Dir: c.workdir, Settings: c.Settings}
}

// inherit completes the builds of the file. A build takes each setting that it lacks from
// the top level, so the merged top level serves as its defaults. Environment and flags
// beat the file, also for builds. The origin of an inherited value is that of the top
// level.
func (c *Config) inherit(top yamlconf.Sources, lines map[string]int) {
	above := settingsTable.Layer(&c.Settings, func(path string) (yamlconf.Origin, bool) { return c.origins[path], true })
	for i := range c.Builds {
		b := &c.Builds[i]
		b.prefix = fmt.Sprintf("builds[%d].", i)
		own := buildTable.Layer(b, inFile(yamlconf.FromFile, c.File, lines, b.prefix))
		// The user's own file has no settings of programs, so it is missing here.
		buildTable.Merge(yamlconf.Sources{
			yamlconf.FromDefault: above, yamlconf.FromFile: own, yamlconf.FromEnv: top[yamlconf.FromEnv], yamlconf.FromFlag: top[yamlconf.FromFlag],
		}, b, c.origins, b.prefix)
		if b.Dir == "" {
			b.Dir = c.Dir
		}
		b.yield(top[yamlconf.FromEnv], top[yamlconf.FromFlag])
	}
}

// imply turns cgo on if a flag or variable says how to compile C and no source says
// whether to. For the file, the decoder has done this.
func (g *Cgo) imply(origins map[string]yamlconf.Origin, prefix string) {
	for _, key := range []string{"cgo.toolchain", "cgo.static"} {
		if how := origins[prefix+key]; how.Kind >= yamlconf.FromEnv && origins[prefix+"cgo.enabled"].Kind == yamlconf.FromDefault {
			g.Enabled, origins[prefix+"cgo.enabled"] = true, how
		}
	}
}

// yield clears the overrides that a stronger source sets for every build: an override for
// one platform in the file must not beat a flag.
func (b *Build) yield(stronger ...yamlconf.Layer) {
	for key, o := range b.Overrides {
		for _, l := range stronger {
			overrideTable.Copy(&o, &Override{}, func(f *yamlconf.Field) bool { _, said := l[f.Path]; return said })
		}
		b.Overrides[key] = o
	}
}
