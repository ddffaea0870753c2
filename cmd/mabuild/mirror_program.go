package main

import (
	"cmp"
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// programs is a source whose images are built: module/path@version.
type programs struct {
	app    *app
	client *registry.Client
	entry  *mirror.Entry
}

var _ mirror.Programs = (*programs)(nil)

// Tags lists the versions of the module that has the program.
func (p *programs) Tags(ctx context.Context, pkg string) ([]string, error) {
	work, err := p.app.workDir()
	if err != nil {
		return nil, err
	}
	return (&crosscompile.Go{Log: p.app.log}).Versions(ctx, work, pkg)
}

// Resolve does not know what has not been built.
func (p *programs) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{}, errors.New("a program has no digest before it is built")
}

// Get builds the program for the entry's platforms.
func (p *programs) Get(ctx context.Context, ref string) (manifest.Content, error) {
	work, err := p.app.workDir()
	if err != nil {
		return nil, err
	}
	b := &build.Builder{Bases: store{p.client}, Work: work, Cache: p.app.cache, Jobs: p.app.config.Jobs, Log: p.app.log}
	spec := build.Spec{Package: ref, Dir: work, Base: cmp.Or(p.entry.Base, "static"), Platforms: p.platforms()}
	if spec.Time, err = sourceDate(); err != nil {
		return nil, err
	}
	if spec, err = b.Resolve(ctx, spec); err != nil {
		return nil, err
	}
	result, err := b.Build(ctx, spec, build.Hooks{})
	if err != nil {
		return nil, err
	}
	return result.Index, nil
}

// platforms are those of the entry, or those that push builds by default.
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
