package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/manifest/platform"
)

// spec turns one build of the configuration into what build understands.
func (a *app) spec(ctx context.Context, c config.Build) (build.Spec, error) {
	s := build.Spec{
		Package: c.Main, Dir: c.Dir, Name: c.ID, Path: c.Path,
		Compile:     build.Compile{Ldflags: c.Ldflags, Gcflags: c.Gcflags, Tags: c.BuildTags, Env: c.Env, Cgo: c.Cgo.Enabled, C: cgo(c.Cgo), Symbols: c.Symbols, Race: c.Race, Cover: c.Cover},
		Overrides:   map[string]build.Compile{},
		Docker:      a.config.MediaTypes == "docker",
		Compression: build.Compression{Format: a.config.Compression.Format, Level: a.config.Compression.Level},
		Config: build.Config{
			Entrypoint: c.Image.Entrypoint, Cmd: c.Image.Cmd, User: c.Image.User, WorkingDir: c.Image.Workdir,
			Env: c.Image.Env, Ports: c.Image.Ports, Volumes: c.Image.Volumes, StopSignal: c.Image.StopSignal,
		},
	}
	for _, f := range c.Files {
		file := build.File{From: f.From, To: f.To, Mode: int64(f.Mode)}
		user, group, _ := strings.Cut(f.Owner, ":")
		file.UID, _ = strconv.Atoi(user)                // numbers, or nothing
		file.GID, _ = strconv.Atoi(cmp.Or(group, user)) // as Docker has it
		s.Files = append(s.Files, file)
	}
	s.Config.Healthcheck = healthcheck(c.Image.Healthcheck)
	s.Newest = a.config.NoIndex // of Windows, a plain image has one version
	var err error
	if s.Compile.Pgo, err = a.pgo(c); err != nil {
		return s, err
	}
	if s.Time, err = sourceDate(); err != nil {
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
	s.Base, s.Bases = c.Base.Default(), maps.Clone(c.Base)
	maps.DeleteFunc(s.Bases, func(_, ref string) bool { return ref == s.Base })
	for key, o := range c.Overrides {
		s.Overrides[key] = build.Compile{Ldflags: o.Ldflags, Gcflags: o.Gcflags, Tags: o.BuildTags, Env: o.Env}
	}
	if !isVersion(c.Main) && (a.config.VCS || usesTemplates(c)) { // git answers slowly, and seldom matters
		s.Vars = gitVars(ctx, programDir(c))
		if a.config.VCS && s.Vars.Commit == "" {
			return s, usage(hintOf(s.Vars.Why[""]), "--vcs requires a commit: %s", s.Vars.Why[""])
		}
	}
	if isVersion(c.Main) {
		s.Vars.Why = map[string]error{"": errNoCheckout}
	}
	if s.Config.Labels, err = pairs(c.Image.Labels); err != nil {
		return s, fmt.Errorf("labels: %w", err)
	}
	if err := annotations(&s, c.Image.Annotations); err != nil {
		return s, fmt.Errorf("annotations: %w", err)
	}
	if a.config.VCS {
		described := vcsAnnotations(ctx, c)
		maps.Copy(described, s.IndexAnnotations)
		s.IndexAnnotations = described
	}
	return s, nil
}

// annotations sorts annotations by what they are of: index:K=V of the index,
// manifest:K=V of every manifest, K=V of both.
func annotations(s *build.Spec, list []string) error {
	var index, manifest, both []string
	for _, text := range list {
		switch of, kv := annotationOf(text); of {
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

// annotationOf cuts what an annotation is of from its key: index, manifest, a platform,
// whatever stands before a colon of the key, or nothing. After it a key may have colons.
func annotationOf(text string) (of, rest string) {
	key, _, _ := strings.Cut(text, "=")
	if colon := strings.LastIndex(key, ":"); colon >= 0 { // windows/amd64:10.0 has one
		if _, err := platform.Parse(key[:colon]); err == nil {
			return key[:colon], text[colon+1:]
		}
	}
	if of, _, scoped := strings.Cut(key, ":"); scoped {
		return of, text[len(of)+1:]
	}
	return "", text
}

// healthcheck is Docker's word for what the configuration says, nil where it says
// nothing.
func healthcheck(c config.Healthcheck) *v1.HealthConfig {
	if reflect.ValueOf(c).IsZero() {
		return nil
	}
	return &v1.HealthConfig{
		Test: append([]string{"CMD"}, c.Cmd...), Retries: c.Retries,
		Interval: time.Duration(c.Interval), Timeout: time.Duration(c.Timeout), StartPeriod: time.Duration(c.StartPeriod),
	}
}

// pgo returns what a build says of its profile, a file by its whole path: the go command
// may run elsewhere. One that a file of a tree names lies below the build's directory.
func (a *app) pgo(c config.Build) (string, error) {
	switch c.PGO {
	case "", "auto", "off":
		return c.PGO, nil
	}
	file := c.PGO
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.Dir, file)
	}
	if a.config.FromTree(c, "pgo") {
		tree, err := intree.New(c.Dir)
		if err != nil {
			return "", err
		}
		defer tree.Close() //nolint:errcheck // only looked at
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

// cgo says which C compilers are used, nothing where none is.
func cgo(c config.Cgo) crosscompile.Cgo {
	if !c.Enabled {
		return crosscompile.Cgo{}
	}
	return crosscompile.Cgo{Toolchain: c.Toolchain, Static: c.Static, CC: c.CC, CXX: c.CXX, Env: c.Env}
}

// programDir is the directory of a build's program, as far as that is known before it was
// looked for: its repository is the one that templates are about.
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

// errNoCheckout is why module/path@version has a version and nothing else.
var errNoCheckout = errors.New("module/path@version has a version but no commit")

// isVersion reports whether a package is a module/path@version, of which the
// repository at hand says nothing.
func isVersion(pkg string) bool { return strings.Contains(pkg, "@") }

// vcsAnnotations describes the commit, by templates that know it.
func vcsAnnotations(ctx context.Context, c config.Build) map[string]string {
	all := map[string]string{vcsPrefix + "version": "{{.Version}}"}
	if !isVersion(c.Main) {
		all[vcsPrefix+"revision"], all[vcsPrefix+"created"] = "{{.Commit}}", "{{.Date}}"
		if remote := gitRemote(ctx, programDir(c)); remote != "" { // a repository may be nobody's copy
			all[vcsPrefix+"source"] = remote
		}
	}
	return all
}

// vcsPrefix is the prefix of annotations that describe an image (image-spec,
// annotations.md).
const vcsPrefix = "org.opencontainers.image."

// usesTemplates reports whether any text of a build is a template.
func usesTemplates(c config.Build) bool {
	texts := slices.Concat(c.Tags, c.Ldflags, c.Env, c.Image.Env, c.Image.Labels, c.Image.Annotations)
	for _, o := range c.Overrides {
		texts = slices.Concat(texts, o.Ldflags, o.Env)
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "{{") })
}

// pairs makes a map of K=V texts.
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

// sourceDate is the time that images carry: that of SOURCE_DATE_EPOCH
// (reproducible-builds.org), else the beginning of 1970.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<33 {
		return time.Time{}, usage("set it to the seconds since 1970, or unset it", "SOURCE_DATE_EPOCH=%q is not a time", text)
	}
	return time.Unix(seconds, 0), nil
}
