package build

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// accounts checks that each base lists the user and the group that s names.
//
// A number needs no entry, and Windows has no such files; for these the layers of the
// base are not read. Platforms on the same base report the same missing name once.
func (s Spec) accounts(bases []PlannedBase, files []layerfile.Entry, fs *basefs.Reader) error {
	user, group, _ := strings.Cut(s.Config.User, ":")
	var errs []error
	seen := map[string]bool{}
	for _, base := range bases {
		if base.Platform.OS == "windows" || basefs.IsNumber(user) && basefs.IsNumber(group) {
			continue
		}
		err := fs.Read(base.baseImage.Layers, func(t *rootfs.Tree) error {
			missing, err := basefs.System{Tree: t, Files: files}.Lacks(base.Ref, user, group)
			for _, e := range missing {
				if !seen[base.Ref+e.Reason] {
					seen[base.Ref+e.Reason] = true
					errs = append(errs, e)
				}
			}
			return err
		})
		if err != nil {
			return &BaseError{Ref: base.Ref, Err: err}
		}
	}
	return errors.Join(errs...)
}

// linkage checks that the base has the loader and the libraries that a program is linked
// against. A static program needs neither, and its base is not read. A program that still
// needs a loader although the settings ask for static linking is an error.
func (r *buildRun) linkage(base PlannedBase, program *shared) error {
	l := program.linkage
	switch {
	case l.Interpreter == "":
		return nil
	case program.static != "":
		return basefs.Misfit(base.Ref, program.static+" is set, but the program requires the loader "+l.Interpreter)
	}
	return r.baseFS.Read(base.baseImage.Layers, func(t *rootfs.Tree) error {
		return basefs.System{Tree: t, Files: slices.Concat(r.files, r.packageLayer(base).entries())}.Suits(base.Ref, l)
	})
}

// A linkageBarrier delays the hook OnImage, if programs may require libraries, until the
// program of every platform was compared with its base or has failed. A mismatch shows
// only after linking, and then no image of the build is sent. A build of other programs
// does not wait.
type linkageBarrier struct {
	closed  bool           // some program may require libraries, so there is something to wait for
	waiting sync.WaitGroup // counts the platforms that were not compared yet
	misfit  atomic.Bool    // some program does not match its base
}

// newLinkageBarrier makes the barrier of a build. Each platform calls waiting.Done
// exactly once, also if it fails before its program is compared.
func newLinkageBarrier(plan *Plan) *linkageBarrier {
	g := &linkageBarrier{closed: slices.ContainsFunc(plan.Spec.Platforms, plan.maker.linked)}
	g.waiting.Add(len(plan.Spec.Platforms))
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
