package plan

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/manifest/platform"
)

// selected returns the builds to run: those named by PACKAGE or --only, otherwise all of
// the file, otherwise the package in the working directory. With --prebuilt it is that
// program alone. Patterns such as ./cmd/...
// are replaced by the programs that match.
func (p *Planner) selected(ctx context.Context) ([]config.Build, error) {
	if p.Builds != nil {
		return p.Builds, nil
	}
	if p.Prebuilt != "" {
		if len(p.Packages)+len(p.Only) > 0 {
			return nil, usage("omit PACKAGE and --only, or use prebuilt in the configuration file", "--prebuilt %s is the program, so no other can be selected", p.Prebuilt)
		}
		return []config.Build{p.Config.Prebuilt(p.Prebuilt)}, nil
	}
	var err error
	if p.Config.Builds, err = p.spread(ctx, p.Config.Builds); err != nil {
		return nil, err
	}
	// Without arguments and without builds in the file, the package is the working
	// directory.
	packages := p.Packages
	if len(packages) == 0 && len(p.Config.Builds) == 0 {
		packages = []string{"."}
	}
	for _, pkg := range packages {
		_, err := os.Stat(pkg)
		if err != nil && slices.Contains(IDs(p.Config.Builds), pkg) {
			return nil, usage("use --only "+pkg, "%q is the id of a build, not a package", pkg)
		}
	}
	if packages, err = p.spreadArguments(ctx, packages); err != nil {
		return nil, err
	}
	builds := Programs(p.Config, packages)
	if len(p.Only) == 0 {
		return builds, nil
	}
	ids := IDs(builds)
	for i, id := range p.Only {
		id = strings.TrimSpace(id)
		p.Only[i] = id
		if !slices.ContainsFunc(builds, func(b config.Build) bool { return named(b, id) }) {
			return nil, usage("the ids are: "+strings.Join(ids, ", "), "--only %s: no build has this id", id)
		}
	}
	return slices.DeleteFunc(builds, func(b config.Build) bool {
		return !slices.ContainsFunc(p.Only, func(id string) bool { return named(b, id) })
	}), nil
}

// named reports whether id names a build: by its id, or by its package if it has none.
func named(b config.Build, id string) bool { return id == idOf(b) || b.ID == "" && id == b.Main }

// idOf returns the id of a build, by default the last element of its package, or the name of
// its prebuilt program.
func idOf(b config.Build) string {
	if b.IsPrebuilt() {
		return cmp.Or(b.ID, prebuiltName(b.Prebuilt))
	}
	base := path.Base(b.Main)
	if base == "." || base == ".." {
		base = nameOf(filepath.Join(b.Dir, filepath.FromSlash(b.Main)))
	}
	return cmp.Or(b.ID, base)
}

// prebuiltName returns the name of a prebuilt program: the last element of program, or of the
// path or URL as far as no template is in it, without the extensions of programs and archives.
// It is "" if that is nothing, or a pattern.
func prebuiltName(p config.Prebuilt) string {
	name := cmp.Or(p.Program, p.Path, p.URL)
	if at := strings.LastIndexAny(name, `/\`); at >= 0 {
		name = name[at+1:]
	}
	name, _, _ = strings.Cut(name, "{{")
	if strings.ContainsAny(name, "*?[{") {
		return ""
	}
	for slices.Contains(extensions, filepath.Ext(name)) {
		name = strings.TrimSuffix(name, filepath.Ext(name))
	}
	return strings.Trim(name, "-_.")
}

// extensions are no part of a name.
var extensions = []string{".exe", ".tar", ".tgz", ".txz", ".zip", ".gz", ".xz", ".zst", ".bz2"}

// nameOf returns the name of the program in a directory, whose path does not end with it:
// that of the module at its root, otherwise that of the directory.
func nameOf(dir string) string {
	if content, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
		// The go command also names the program without a major version.
		if prefix, _, ok := module.SplitPathVersion(modfile.ModulePath(content)); ok && prefix != "" {
			return path.Base(prefix)
		}
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return filepath.Base(dir)
}

// IDs returns the ids of builds, without those of patterns.
func IDs(builds []config.Build) []string {
	var ids []string
	for _, one := range builds {
		if !isPattern(one.Main) {
			ids = append(ids, idOf(one))
		}
	}
	return ids
}

// Named returns the build with an id that [IDs] lists.
func Named(builds []config.Build, id string) config.Build {
	return builds[slices.IndexFunc(builds, func(b config.Build) bool { return !isPattern(b.Main) && idOf(b) == id })]
}

// isPattern reports whether pkg is a pattern for several packages, such as ./cmd/....
func isPattern(pkg string) bool { return strings.Contains(pkg, "...") }

// spread replaces each build whose main is a pattern by one build for each program that
// matches. A program that another build of the file names is left to that build.
func (p *Planner) spread(ctx context.Context, builds []config.Build) ([]config.Build, error) {
	var all []config.Build
	var errs []error
	for _, one := range builds {
		if !isPattern(one.Main) {
			all = append(all, one)
			continue
		}
		mains, err := p.mains(ctx, one, others(builds, one))
		if err != nil {
			errs = append(errs, err)
			continue
		}
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
func (p *Planner) spreadArguments(ctx context.Context, packages []string) ([]string, error) {
	var all []string
	var errs []error
	for _, pkg := range packages {
		pkg = strings.TrimPrefix(strings.TrimPrefix(pkg, "ko://"), "mabuild://")
		if err := notPackage(pkg); err != nil {
			errs = append(errs, err)
			continue
		}
		if !isPattern(pkg) {
			all = append(all, pkg)
			continue
		}
		one := Programs(p.Config, []string{pkg})[0]
		// Programs of the file have settings of their own, with which they may need cgo.
		var known []string
		for _, main := range others(p.Config.Builds, one) {
			if matches(pkg, main) {
				known = append(known, main)
			}
		}
		mains, err := p.mains(ctx, one, known)
		errs = append(errs, err)
		for _, main := range slices.Sorted(slices.Values(append(known, mains...))) {
			// Patterns may overlap.
			if !slices.Contains(all, main) {
				all = append(all, main)
			}
		}
	}
	return all, errors.Join(errs...)
}

// notPackage returns an error for what is certainly no package: the name of an image, and a
// platform that a blank has cut off its list.
func notPackage(arg string) error {
	info, err := os.Stat(arg)
	if err == nil && strings.HasSuffix(arg, ".go") && info.Mode().IsRegular() {
		return usage("name its package: "+AsLocal(filepath.Dir(arg)), "%s is a file, not a package", arg)
	}
	if err == nil || strings.Contains(arg, "@") {
		return nil
	}
	several := "linux/amd64," + arg
	if strings.HasPrefix(arg, "linux/amd64") {
		several = arg + ",linux/arm64"
	}
	if IsPlatform(arg) {
		return usage("write --platforms "+arg+"; separate several by commas: --platforms "+several, "%s is a platform, not a package", arg)
	}
	if name, tag, ok := strings.Cut(path.Base(arg), ":"); ok && name != "" && tag != "" && filepath.VolumeName(arg) == "" {
		return usage("mabuild mirror copies an image that exists, docker run starts it; -t names the image that is built", "%s is an image, not a package", arg)
	}
	return nil
}

// IsPlatform reports whether an argument is certainly meant as a platform, as one that a blank
// has cut off its list.
func IsPlatform(arg string) bool {
	p, err := platform.Parse(arg)
	return err == nil && slices.Contains([]string{"linux", "windows", "darwin"}, p.OS)
}

// others returns the programs that builds name one by one, in the module of a build with a
// pattern.
func others(builds []config.Build, pattern config.Build) (mains []string) {
	for _, one := range builds {
		if one.IsPrebuilt() || isPattern(one.Main) {
			continue
		}
		if name, ok := spelled(one, pattern); ok {
			mains = append(mains, name)
		}
	}
	return mains
}

// matches reports whether a package matches a pattern, by the rules of go help packages: ./x/...
// also matches ./x.
func matches(pattern, pkg string) bool {
	text := regexp.QuoteMeta(path.Clean(pattern))
	if before, ok := strings.CutSuffix(text, `/\.\.\.`); ok {
		text = before + `(/\.\.\.)?`
	}
	return regexp.MustCompile("^" + strings.ReplaceAll(text, `\.\.\.`, ".*") + "$").MatchString(path.Clean(pkg))
}

// mains returns the programs that match the pattern of a build and are not known.
func (p *Planner) mains(ctx context.Context, c config.Build, known []string) ([]string, error) {
	c.Tags, c.Image = nil, config.Image{} // avoids calling git for their templates
	s, err := p.spec(ctx, c)
	if err != nil {
		return nil, err
	}
	return p.Builder.Mains(ctx, s, known...)
}
