package build

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/rootfs"
)

// compilers checks that there is a C compiler for each of the platforms that are
// built with cgo.
func (b *Builder) compilers(ctx context.Context, s Spec) error {
	var list []ocispec.Platform
	for _, p := range s.Platforms {
		if p = target(p); s.compile(p).Cgo && !slices.ContainsFunc(list, func(o ocispec.Platform) bool {
			return o.OS == p.OS && o.Architecture == p.Architecture && o.Variant == p.Variant
		}) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return b.goc.LookCompilers(ctx, s.Main.Dir, list, s.Compile.C)
}

// linkage checks that a program finds what it was linked against. Only one with a
// loader wants anything, and only then is the base read.
func (r *buildRun) linkage(base PlannedBase, how Compile, program *shared) error {
	l := program.linkage
	switch {
	case l.Interpreter == "":
		return nil
	case how.Cgo && how.C.Static:
		return misfit(base.Ref, wayOfLinkage, "cgo: static is set, but the program requires the loader "+l.Interpreter)
	}
	return r.layers.tree(base.baseImage.layers, func(t *rootfs.Tree) error {
		return system{tree: t, files: r.files}.suits(base.Ref, l)
	})
}

// A linkageBarrier keeps every image of a build from going anywhere until all programs
// were found to suit their bases, where cgo is used: what is wrong shows only when
// they are linked. Elsewhere it stands open.
type linkageBarrier struct {
	closed  bool           // there is something to wait for
	waiting sync.WaitGroup // for the platforms that were not looked at
	misfit  atomic.Bool
}

// newLinkageBarrier makes the barrier of a build.
func newLinkageBarrier(s Spec) *linkageBarrier {
	g := &linkageBarrier{closed: slices.ContainsFunc(s.Platforms, func(p ocispec.Platform) bool { return s.compile(p).Cgo })}
	g.waiting.Add(len(s.Platforms))
	return g
}

// opens waits until all were looked at. Where one does not suit its base it stays
// shut, and nothing goes anywhere.
func (g *linkageBarrier) opens() bool {
	if g.closed {
		g.waiting.Wait()
	}
	return !g.closed || !g.misfit.Load()
}
