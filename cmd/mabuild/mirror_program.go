package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/manifest"
)

// programs builds the images of a mirror entry from module/path@version. The mirror uses
// it like a source of images.
type programs struct {
	app   *app
	entry *mirror.Entry
	// builder returns the builder of the run, which all entries share, so that --jobs
	// bounds the compilers of all of them together.
	builder func() (*build.Builder, error)
}

var _ mirror.Programs = (*programs)(nil)

// builders returns a function that makes the builder of a run when it is first called,
// and end, which removes its work directory. A run that builds nothing creates no
// directory.
func (a *app) builders(ctx context.Context, s places.Store) (builder func() (*build.Builder, error), end func()) {
	var dir string
	builder = sync.OnceValues(func() (*build.Builder, error) {
		work, err := a.workDir(ctx)
		if err != nil {
			return nil, err
		}
		if dir, err = os.MkdirTemp(work, "round-"); err != nil {
			return nil, err
		}
		return &build.Builder{Bases: s, Work: dir, Cache: a.cache, CacheKey: a.cacheKey(), Jobs: a.config.Jobs, Log: a.log}, nil
	})
	return builder, func() {
		if dir != "" {
			_ = os.RemoveAll(dir) // else close removes it
		}
	}
}

// Versions returns the versions of the module that contains the package pkg.
func (p *programs) Versions(ctx context.Context, pkg string) (string, []string, error) {
	b, err := p.builder()
	if err != nil {
		return "", nil, err
	}
	return (&crosscompile.Go{Log: p.app.log}).Versions(ctx, b.Work, pkg)
}

// Resolve always fails: the digest is only known after the build.
func (p *programs) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{}, errors.New("a program has no digest until it is built")
}

// Get builds the program for the platforms of the entry. Only one build runs at a time in
// the process: rounds of other entries have other builders, and their compilers together
// could exceed --jobs.
func (p *programs) Get(ctx context.Context, ref string) (manifest.Content, error) {
	b, err := p.builder()
	if err != nil {
		return nil, err
	}
	p.app.building.Lock()
	defer p.app.building.Unlock()
	spec := build.Spec{Program: build.GoPackage{Package: ref}, Dir: b.Work, Base: cmp.Or(p.entry.Base, "static"), Platforms: p.platforms()}
	if spec.Time, err = plan.SourceDate(os.Getenv); err != nil {
		return nil, err
	}
	if spec, err = b.Resolve(ctx, spec); err != nil {
		return nil, err
	}
	result, err := b.Build(ctx, spec, build.Hooks{})
	if err != nil {
		return nil, err
	}
	p.app.grown.Store(true)
	return result.Index, nil
}

// platforms returns the platforms of the entry, by default those of push.
func (p *programs) platforms() []ocispec.Platform {
	if len(p.entry.Platforms) == 0 {
		return []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	}
	list := make([]ocispec.Platform, len(p.entry.Platforms))
	for i, one := range p.entry.Platforms {
		list[i] = one.Wanted
	}
	return list
}
