package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Programs returns the builds for the PACKAGE arguments of a command, in the order of the
// arguments. Without arguments it returns every build of the file. An argument that is
// the package of a build means that build, with all its settings; several builds may have
// the same package. Any other argument becomes a build with the settings of the top
// level.
func (c *Config) Programs(packages []string) []Build {
	if len(packages) == 0 {
		return slices.Clone(c.Builds)
	}
	var list []Build
	for _, pkg := range packages {
		found := false
		for _, b := range c.Builds {
			if b.Main == pkg && !isLocal(pkg) || pathOf(b.Dir, b.Main) == pathOf(c.workdir, pkg) {
				list, found = append(list, b), true
			}
		}
		if !found {
			list = append(list, Build{Main: pkg, Dir: c.workdir, Settings: c.Settings})
		}
	}
	return list
}

// pathOf returns the absolute path of pkg, relative to dir, as if it were a directory. It
// does not follow links.
func pathOf(dir, pkg string) string {
	if !filepath.IsAbs(pkg) {
		pkg = filepath.Join(dir, pkg)
	}
	if abs, err := filepath.Abs(pkg); err == nil {
		return abs
	}
	return pkg
}

// isLocal reports whether pkg is a directory rather than an import path, by the rule of
// the go command (build.IsLocalImport).
func isLocal(pkg string) bool {
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
			errs = append(errs, &Problem{Origin{FromFile, c.File, lines[key]}, key, fmt.Errorf("%q is a duplicate of line %d", shorten(b.ID), line)})
			continue
		}
		first[b.ID] = lines[key]
	}
	return errors.Join(errs...)
}
