package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/assembly"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/git"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/manifest/platform"
)

// spec converts one build of the configuration into a [build.Spec], and parses the texts
// that config leaves to the libraries, such as platforms. What depends on the package is
// resolved later, by the builder. Git is asked only if a template or --vcs needs it,
// since it is slow.
func (p *Planner) spec(ctx context.Context, c config.Build) (build.Spec, error) {
	program, err := p.program(ctx, c)
	if err != nil {
		return build.Spec{}, err
	}
	s := build.Spec{
		Program: program, Dir: c.Dir, Name: c.ID, Path: c.Path,
		Docker:      p.Config.MediaTypes == "docker",
		Compression: build.Compression{Format: p.Config.Compression.Format, Level: p.Config.Compression.Level},
		Config: build.Config{
			Entrypoint: c.Image.Entrypoint, Cmd: c.Image.Cmd, User: c.Image.User, WorkingDir: c.Image.Workdir,
			Env: c.Image.Env, Ports: c.Image.Ports, Volumes: c.Image.Volumes, StopSignal: c.Image.StopSignal,
		},
	}
	if c.IsPrebuilt() {
		if of := c.Prebuilt; of.URL == "" && (of.Sums != "" || of.Verify != config.Verify{}) {
			return s, usage("set prebuilt.url, or omit them", "prebuilt: sums and verify are for what is downloaded")
		}
		if s.Name = idOf(c); s.Name == "" {
			return s, usage("set id in the configuration file, or put the file into a directory for each platform", "prebuilt: %q does not name the program", cmp.Or(c.Prebuilt.Program, c.Prebuilt.Path))
		}
	}
	for _, f := range c.Files {
		file := build.File{From: f.From, To: f.To, Mode: int64(f.Mode)}
		user, group, _ := strings.Cut(f.Owner, ":")
		file.UID, _ = strconv.Atoi(user)                // "" or a number, as config checks
		file.GID, _ = strconv.Atoi(cmp.Or(group, user)) // as in Docker's --chown
		s.Files = append(s.Files, file)
	}
	for _, text := range p.Files {
		f, err := fileOf(text)
		if err != nil {
			return s, err
		}
		s.Files = append(s.Files, f)
	}
	s.Config.Healthcheck = healthcheck(c.Image.Healthcheck)
	s.Newest = p.Config.NoIndex // one image can have only one version of Windows
	if s.Time, err = SourceDate(p.Getenv); err != nil {
		return s, err
	}
	if slices.Contains(c.Platforms, "all") {
		if len(c.Platforms) > 1 {
			return s, usage("use either all or a list of platforms", "--platforms %s: all cannot be combined with other platforms", strings.Join(c.Platforms, ","))
		}
		s.All = true
	} else if s.Platforms, err = platform.ParseList(c.Platforms); err != nil {
		return s, err
	}
	if err := p.addPackages(c, &s); err != nil {
		return s, err
	}
	s.Base, s.Bases = c.Base.Default(), maps.Clone(c.Base)
	// Only the platforms whose base differs remain; the key "default" goes as well.
	maps.DeleteFunc(s.Bases, func(_, ref string) bool { return ref == s.Base })
	if !isVersion(c.Main) && (p.Config.VCS || usesTemplates(c)) {
		s.Vars = git.Vars(ctx, programDir(c))
		if p.Config.VCS && s.Vars.Commit == "" {
			return s, usage(hint.Of(s.Vars.Why[""]), "--vcs requires a commit: %s", s.Vars.Why[""])
		}
	}
	if isVersion(c.Main) {
		s.Vars.Why = map[string]error{"": errNoCheckout}
	}
	if c.Prebuilt.URL != "" && c.Prebuilt.Version != "" {
		s.Vars.Version = c.Prebuilt.Version
	}
	p.variables(&s.Vars, c)
	if s.Config.Labels, err = pairs(c.Image.Labels); err != nil {
		return s, fmt.Errorf("labels: %w", err)
	}
	if err := annotations(&s, c.Image.Annotations); err != nil {
		return s, fmt.Errorf("annotations: %w", err)
	}
	if p.Config.VCS {
		// Annotations that the user sets take precedence.
		described := vcsAnnotations(ctx, c)
		maps.Copy(described, s.IndexAnnotations)
		s.IndexAnnotations = described
	}
	return s, nil
}

// program returns the program of a build.
func (p *Planner) program(ctx context.Context, c config.Build) (build.Program, error) {
	if c.IsPrebuilt() {
		return p.prebuilt(ctx, c)
	}
	program := build.GoPackage{
		Package: c.Main, AsMain: p.AsMain, Debug: p.Debug, Overrides: map[string]build.Compile{},
		Compile: build.Compile{
			Ldflags: c.Ldflags, Gcflags: c.Gcflags, Tags: c.BuildTags, Env: c.Env, Cgo: c.Cgo.Enabled, C: cgo(c.Cgo),
			Symbols: c.Symbols, Race: c.Race, Cover: c.Cover, Unoptimized: p.Plain,
		},
	}
	for key, one := range c.Overrides {
		program.Overrides[key] = build.Compile{Ldflags: one.Ldflags, Gcflags: one.Gcflags, Tags: one.BuildTags, Env: one.Env}
	}
	var err error
	program.Compile.Pgo, err = p.pgo(c)
	return program, err
}

// prebuilt returns the prebuilt program of a build. A path in a file of the tree must stay
// below the build's directory; the user may name any.
func (p *Planner) prebuilt(ctx context.Context, c config.Build) (build.Program, error) {
	for flag, given := range map[string]bool{"--as-main": p.AsMain, "--debug": p.Debug, "--disable-optimizations": p.Plain} {
		if given {
			return nil, usage("omit it, or select other programs with --only", "%s requires a Go package, and %s is prebuilt", flag, buildName(c))
		}
	}
	of := c.Prebuilt
	program := build.Prebuilt{Path: of.Path, Program: of.Program, Files: of.Files, OS: of.OS, Arch: of.Arch}
	if p.Config.FromTree(c, "prebuilt.path") {
		program.Within = c.Dir
	}
	var err error
	if of.URL != "" {
		program.Downloads, program.SHA256, err = p.downloads(ctx, c)
	}
	return program, err
}

// fileOf reads SRC:DST of --file. SRC may be anywhere, since the user wrote it and no file of
// a tree.
func fileOf(text string) (build.File, error) {
	at := strings.LastIndex(text, ":")
	if at <= 0 || at == len(text)-1 {
		return build.File{}, usage("for example --file ./web:/srv/web", "--file %q: must be SRC:DST", text)
	}
	from, err := filepath.Abs(text[:at])
	if err != nil {
		return build.File{}, err
	}
	return build.File{Tree: filepath.Dir(from), From: filepath.Base(from), To: text[at+1:]}, nil
}

// packageOf returns the Go package of a spec that [Planner.spec] made, the zero GoPackage if
// its program is of another kind.
func packageOf(s build.Spec) build.GoPackage {
	program, _ := s.Program.(build.GoPackage)
	return program
}

// annotations distributes annotations by their prefix: index:K=V belongs to the index,
// manifest:K=V to every image's manifest, K=V to both.
func annotations(s *build.Spec, list []string) error {
	var index, manifest, both []string
	for _, text := range list {
		switch of, kv := assembly.CutScope(text); of {
		case "":
			both = append(both, kv)
		case "index":
			index = append(index, kv)
		case "manifest":
			manifest = append(manifest, kv)
		default:
			return usage("write KEY=VALUE, index:KEY=VALUE or manifest:KEY=VALUE; for one platform, use mabuild manifest annotate", "%q: unknown prefix %q", text, of)
		}
	}
	var errs [3]error
	s.Config.Annotations, errs[0] = pairs(both)
	s.IndexAnnotations, errs[1] = pairs(index)
	s.ManifestAnnotations, errs[2] = pairs(manifest)
	return errors.Join(errs[:]...)
}

// healthcheck converts a health check to Docker's form, without a shell. It is nil if
// nothing is set.
func healthcheck(c config.Healthcheck) *v1.HealthConfig {
	if reflect.ValueOf(c).IsZero() {
		return nil
	}
	return &v1.HealthConfig{
		Test: append([]string{"CMD"}, c.Cmd...), Retries: c.Retries,
		Interval: time.Duration(c.Interval), Timeout: time.Duration(c.Timeout), StartPeriod: time.Duration(c.StartPeriod),
	}
}

// pgo returns the profile of a build: a keyword, or the absolute path of a file, since
// the go command may run in another directory. If a file of the tree names the profile,
// it must be below the build's directory after links are followed.
func (p *Planner) pgo(c config.Build) (string, error) {
	switch c.PGO {
	case "", "auto", "off":
		return c.PGO, nil
	}
	file := c.PGO
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.Dir, file)
	}
	if p.Config.FromTree(c, "pgo") {
		tree, err := intree.New(c.Dir)
		if err != nil {
			return "", err
		}
		defer tree.Close() //nolint:errcheck // was opened to read
		rel, err := tree.Resolve(file)
		if errors.Is(err, intree.ErrOutside) || errors.Is(err, intree.ErrGit) {
			return "", usage("copy the file into the build's directory, or use --pgo", "pgo: %s is outside the build's directory", file)
		}
		if err == nil {
			file = filepath.Join(tree.Dir(), rel)
		}
	}
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return "", usage("use auto, off or a file, relative to the build's directory", "pgo: %s is not a file", file)
	}
	return filepath.Abs(file)
}

// cgo returns the C compilers of a build, or the zero value if cgo is off.
func cgo(c config.Cgo) crosscompile.Cgo {
	if !c.Enabled {
		return crosscompile.Cgo{}
	}
	return crosscompile.Cgo{Toolchain: c.Toolchain, Static: c.Static, CC: c.CC, CXX: c.CXX, Env: c.Env}
}

// programDir returns the directory of a build's program, as far as it is known before the
// package is resolved. Templates take their values from the repository of that directory.
// For a pattern it is the directory before the dots, for an import path that of the
// build.
func programDir(c config.Build) string {
	dir := c.Main
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(c.Dir, dir)
	}
	dir, _, _ = strings.Cut(dir, "...")
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return dir
	}
	return c.Dir
}

// kodata warns of a directory that ko would copy into the image, and mabuild does not.
func (p *Planner) kodata(ctx context.Context, c config.Build, spec build.Spec) {
	dir := programDir(c)
	// An import path of the module is no directory.
	if pkg := packageOf(spec).Main; pkg.Module != "" && strings.HasPrefix(pkg.PkgPath, pkg.Module) && pkg.PkgPath == c.Main {
		if root, err := intree.Nearest(c.Dir); err == nil {
			dir = filepath.Join(root, strings.TrimPrefix(pkg.PkgPath, pkg.Module))
		}
	}
	dir = filepath.Join(dir, "kodata")
	info, err := os.Stat(dir)
	copied := slices.ContainsFunc(c.Files, func(f config.File) bool { return filepath.Base(f.From) == "kodata" }) ||
		slices.ContainsFunc(p.Files, func(text string) bool { return strings.Contains(text, "kodata") })
	if err != nil || !info.IsDir() || isVersion(c.Main) || copied {
		return
	}
	p.Log.WarnContext(ctx, dir+" is not copied into the image: add --file "+dir+":/var/run/ko --env KO_DATA_PATH=/var/run/ko, or use mabuild config import")
}

// errNoCheckout is the reason why templates such as {{.Commit}} are empty for
// module/path@version.
var errNoCheckout = errors.New("module/path@version has a version but no commit")

// isVersion reports whether a package is module/path@version. The repository in the
// working directory says nothing about such a program.
func isVersion(pkg string) bool { return strings.Contains(pkg, "@") }

// vcsAnnotations returns the annotations of --vcs, as templates that are expanded with
// the values from git.
func vcsAnnotations(ctx context.Context, c config.Build) map[string]string {
	all := map[string]string{vcsPrefix + "version": "{{.Version}}"}
	if !isVersion(c.Main) {
		all[vcsPrefix+"revision"], all[vcsPrefix+"created"] = "{{.Commit}}", "{{.Date}}"
		if remote := git.Remote(ctx, programDir(c)); remote != "" { // there may be no remote
			all[vcsPrefix+"source"] = remote
		}
	}
	return all
}

// vcsPrefix is the prefix of the predefined annotation keys (image-spec, annotations.md).
const vcsPrefix = "org.opencontainers.image."

// templated returns all texts of a build that support templates.
func templated(c config.Build) []string {
	texts := slices.Concat(c.Tags, []string{ofPlatform.ReplaceAllString(c.Prebuilt.Path, "")}, c.Ldflags, c.Env, c.Image.Env, c.Image.Labels, c.Image.Annotations)
	for _, o := range c.Overrides {
		texts = slices.Concat(texts, o.Ldflags, o.Env)
	}
	return texts
}

// ofPlatform matches the values in the path of a prebuilt program that are no values of git.
var ofPlatform = regexp.MustCompile(`{{\s*\.(OS|Arch|Variant)\s*}}`)

// usesTemplates reports whether any text of a build that supports templates contains one.
func usesTemplates(c config.Build) bool {
	return slices.ContainsFunc(templated(c), func(text string) bool { return strings.Contains(text, "{{") })
}

// variable matches the name of a variable in a template.
var variable = regexp.MustCompile(`\.Env\.(\w+)`)

// variables adds the variables that templates of a build read. The file may be untrusted,
// and what it puts into an image is published, so the user allows each variable.
func (p *Planner) variables(v *build.Vars, c config.Build) {
	for _, text := range templated(c) {
		for _, match := range variable.FindAllStringSubmatch(text, -1) {
			name := match[1]
			if v.Env == nil {
				v.Env = map[string]string{}
			}
			if v.Why == nil {
				v.Why = map[string]error{}
			}
			switch value := p.Getenv(name); {
			case !slices.Contains(p.AllowEnv, name):
				v.Why["Env."+name] = usage("add --allow-env "+name+" if its value may be published", "templates may not read the variable %s", name)
			case value == "":
				v.Why["Env."+name] = usage("set it, or write the value instead of the template", "the variable %s is allowed but not set", name)
			default:
				v.Env[name] = value
			}
		}
	}
}

// pairs converts a list of KEY=VALUE to a map. If a key is repeated, the last value
// holds.
func pairs(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, kv := range list {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return nil, usage("write key=value", "%q is not key=value", kv)
		}
		m[key] = value
	}
	return m, nil
}

// SourceDate returns the time of SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds
// since 1970, which images carry as their creation time. Without it the time is zero,
// which is written as 1970-01-01, so that equal builds have equal digests.
func SourceDate(getenv func(string) string) (time.Time, error) {
	text := getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<33 {
		return time.Time{}, usage("set it to the seconds since 1970, or unset it", "SOURCE_DATE_EPOCH=%q is not a time", text)
	}
	return time.Unix(seconds, 0), nil
}
