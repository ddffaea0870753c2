package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/manifest/platform"
)

// selected returns the builds that were asked for: those named by PACKAGE or
// --only, else all of the file, else the package in the working directory.
func (a *app) selected(o pushOptions) ([]config.Build, error) {
	packages := o.packages
	if len(packages) == 0 && len(a.config.Builds) == 0 {
		packages = []string{"."}
	}
	builds := a.config.Programs(packages)
	if len(o.only) == 0 {
		return builds, nil
	}
	var ids []string
	for _, b := range builds {
		if b.ID != "" {
			ids = append(ids, b.ID)
		}
	}
	for _, id := range o.only {
		if !slices.Contains(ids, id) {
			return nil, usage("the ids are: "+strings.Join(ids, ", "), "--only %s: no build has that id", id)
		}
	}
	return slices.DeleteFunc(builds, func(b config.Build) bool { return !slices.Contains(o.only, b.ID) }), nil
}

// spec turns one build of the configuration into what build understands.
func (a *app) spec(ctx context.Context, c config.Build) (build.Spec, error) {
	s := build.Spec{
		Package: c.Main, Dir: c.Dir, Name: c.ID, Path: c.Path,
		Compile:   build.Compile{Ldflags: c.Ldflags, Gcflags: c.Gcflags, Tags: c.BuildTags, Env: c.Env, Cgo: c.Cgo, Symbols: c.Symbols},
		Overrides: map[string]build.Compile{},
		Docker:    a.config.MediaTypes == "docker",
		Config: build.Config{
			Entrypoint: c.Image.Entrypoint, Cmd: c.Image.Cmd, User: c.Image.User, WorkingDir: c.Image.Workdir,
			Env: c.Image.Env, Ports: c.Image.Ports, Volumes: c.Image.Volumes, StopSignal: c.Image.StopSignal,
		},
	}
	for _, f := range c.Files {
		s.Files = append(s.Files, build.File{From: f.From, To: f.To, Mode: int64(f.Mode)})
	}
	var err error
	if s.Time, err = sourceDate(); err != nil {
		return s, err
	}
	if slices.Contains(c.Platforms, "all") {
		if len(c.Platforms) > 1 {
			return s, usage("write all alone, or the platforms", "--platforms %s: all and more", strings.Join(c.Platforms, ","))
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
	if a.config.VCS || usesTemplates(c) { // git answers slowly, and seldom matters
		s.Vars = gitVars(ctx, c.Dir)
	}
	return s, a.describeImage(ctx, &s, c)
}

// usesTemplates reports whether any text of a build is a template.
func usesTemplates(c config.Build) bool {
	texts := slices.Concat(c.Tags, c.Ldflags, c.Env, c.Image.Labels, c.Image.Annotations)
	for _, o := range c.Overrides {
		texts = slices.Concat(texts, o.Ldflags, o.Env)
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "{{") })
}

// describeImage fills in labels and annotations, with what --vcs adds.
func (a *app) describeImage(ctx context.Context, s *build.Spec, c config.Build) (err error) {
	if s.Config.Labels, err = pairs(s.Vars, c.Image.Labels); err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	if s.Config.Annotations, err = pairs(s.Vars, c.Image.Annotations); err != nil {
		return fmt.Errorf("annotations: %w", err)
	}
	if !a.config.VCS {
		return nil
	}
	s.IndexAnnotations = map[string]string{}
	for key, value := range map[string]string{
		"revision": s.Vars.Commit, "version": s.Vars.Version, "created": s.Vars.Date, "source": gitRemote(ctx, c.Dir),
	} {
		if value != "" {
			s.IndexAnnotations["org.opencontainers.image."+key] = value
		}
	}
	return nil
}

// pairs makes a map of K=V texts, templates filled in.
func pairs(v build.Vars, list []string) (map[string]string, error) {
	list, err := v.ExpandAll(list)
	if err != nil || len(list) == 0 {
		return nil, err
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
		return time.Time{}, usage("set it to seconds since 1970, or unset it", "SOURCE_DATE_EPOCH=%q is no time", text)
	}
	return time.Unix(seconds, 0), nil
}
