package main

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
)

// selected returns the builds to run: those named by PACKAGE or --only, otherwise all of
// the file, otherwise the package in the working directory. Patterns such as ./cmd/...
// are replaced by the programs that match.
func (a *app) selected(ctx context.Context, b *build.Builder, o pushOptions) ([]config.Build, error) {
	var err error
	if a.config.Builds, err = a.spread(ctx, b, a.config.Builds); err != nil {
		return nil, err
	}
	// Without arguments and without builds in the file, the package is the working
	// directory.
	packages := o.packages
	if len(packages) == 0 && len(a.config.Builds) == 0 {
		packages = []string{"."}
	}
	if packages, err = a.spreadArguments(ctx, b, packages); err != nil {
		return nil, err
	}
	builds := a.config.Programs(packages)
	if len(o.only) == 0 {
		return builds, nil
	}
	var ids []string
	for _, one := range builds {
		ids = append(ids, idOf(one))
	}
	for _, id := range o.only {
		if !slices.Contains(ids, id) {
			return nil, usage("the ids are: "+strings.Join(ids, ", "), "--only %s: no build has this id", id)
		}
	}
	return slices.DeleteFunc(builds, func(b config.Build) bool { return !slices.Contains(o.only, idOf(b)) }), nil
}

// idOf returns the id of a build, by default the last element of its package.
func idOf(b config.Build) string { return cmp.Or(b.ID, path.Base(b.Main)) }

// isPattern reports whether pkg is a pattern for several packages, such as ./cmd/....
func isPattern(pkg string) bool { return strings.Contains(pkg, "...") }

// spread replaces each build whose main is a pattern by one build for each program that
// matches. A program that another build of the file names is left to that build.
func (a *app) spread(ctx context.Context, b *build.Builder, builds []config.Build) ([]config.Build, error) {
	var all []config.Build
	var errs []error
	for _, one := range builds {
		if !isPattern(one.Main) {
			all = append(all, one)
			continue
		}
		mains, err := a.mains(ctx, b, one)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		mains = slices.DeleteFunc(mains, func(main string) bool {
			return slices.ContainsFunc(builds, func(other config.Build) bool {
				return other.Dir == one.Dir && path.Clean(other.Main) == path.Clean(main)
			})
		})
		// An id is the name of one image.
		if one.ID != "" && len(mains) > 1 {
			errs = append(errs, usage("omit the id; each image is named after its program", "id %s is one name, but %s matches %d programs", one.ID, one.Main, len(mains)))
			continue
		}
		for _, main := range mains {
			program := one
			program.Main = main
			all = append(all, program)
		}
	}
	return all, errors.Join(errs...)
}

// spreadArguments replaces each PACKAGE that is a pattern by the programs that match.
func (a *app) spreadArguments(ctx context.Context, b *build.Builder, packages []string) ([]string, error) {
	var all []string
	var errs []error
	for _, pkg := range packages {
		if !isPattern(pkg) {
			all = append(all, pkg)
			continue
		}
		mains, err := a.mains(ctx, b, a.config.Programs([]string{pkg})[0])
		errs = append(errs, err)
		for _, main := range mains {
			// Patterns may overlap.
			if !slices.Contains(all, main) {
				all = append(all, main)
			}
		}
	}
	return all, errors.Join(errs...)
}

// mains returns the programs that match the pattern of a build.
func (a *app) mains(ctx context.Context, b *build.Builder, c config.Build) ([]string, error) {
	c.Tags, c.Image = nil, config.Image{} // avoids calling git for their templates
	s, err := a.spec(ctx, c, pushOptions{})
	if err != nil {
		return nil, err
	}
	return b.Mains(ctx, s)
}
