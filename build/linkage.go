package build

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// compilers checks that a C compiler is installed for each platform that is built with
// cgo. Versions of Windows need the same compiler, so each os, architecture and variant
// is checked once.
func (b *Builder) compilers(ctx context.Context, s Spec) error {
	var list []ocispec.Platform
	for _, p := range s.Platforms {
		if p = target(p); s.goPackage().compile(p).Cgo && !slices.ContainsFunc(list, func(o ocispec.Platform) bool {
			return o.OS == p.OS && o.Architecture == p.Architecture && o.Variant == p.Variant
		}) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	g := s.goPackage()
	return b.goc.Check(ctx, g.Main.Dir, list, &g.Compile.C)
}

// linkage checks that the base has the loader and the libraries that a program is linked
// against. A static program needs neither, and its base is not read. A program that still
// needs a loader although the settings ask for static linking is an error.
func (r *buildRun) linkage(base PlannedBase, how Compile, program *shared) error {
	l := program.linkage
	switch {
	case l.Interpreter == "":
		return nil
	case how.Cgo && how.C.Static:
		return basefs.Misfit(base.Ref, "cgo: static is set, but the program requires the loader "+l.Interpreter)
	}
	return r.baseFS.Read(base.baseImage.layers, func(t *rootfs.Tree) error {
		return basefs.System{Tree: t, Files: r.files}.Suits(base.Ref, l)
	})
}

// A linkageBarrier delays the hook OnImage, if cgo is used, until the program of every
// platform was compared with its base or has failed. A mismatch shows only after linking,
// and then no image of the build is sent. A build without cgo does not wait.
type linkageBarrier struct {
	closed  bool           // some platform uses cgo, so there is something to wait for
	waiting sync.WaitGroup // counts the platforms that were not compared yet
	misfit  atomic.Bool    // some program does not match its base
}

// newLinkageBarrier makes the barrier of a build. Each platform calls waiting.Done
// exactly once, also if it fails before its program is compared.
func newLinkageBarrier(s Spec) *linkageBarrier {
	g := &linkageBarrier{closed: slices.ContainsFunc(s.Platforms, func(p ocispec.Platform) bool { return s.goPackage().compile(p).Cgo })}
	g.waiting.Add(len(s.Platforms))
	return g
}

// opens waits until all platforms were compared, and reports whether images may be sent.
// The caller must hold no permit while it waits.
func (g *linkageBarrier) opens() bool {
	if g.closed {
		g.waiting.Wait()
	}
	return !g.closed || !g.misfit.Load()
}
