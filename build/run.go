package build

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest/platform"
)

// buildRun is one build under way.
type buildRun struct {
	*Builder
	hooks       Hooks
	spec        Spec
	files       []entry
	layers      *layers
	buildRecord *buildRecord
	times       *times

	programs       map[string]*shared // by programKey
	linkageBarrier *linkageBarrier
}

// reservePermits asks for a compiler for each platform, all at once.
func (r *buildRun) reservePermits() []*permit {
	lengths := make([]time.Duration, len(r.spec.Platforms))
	for i, p := range r.spec.Platforms {
		lengths[i] = unknownLength
		if how, err := r.spec.compile(p).expand(r.spec.Vars); err == nil {
			lengths[i] = r.times.of(p, how)
		}
	}
	return r.permits.reserve(lengths...)
}

// platform takes one platform from its base to its image. A program that must be
// compiled waits for its place.
func (r *buildRun) platform(ctx context.Context, base PlannedBase, permit *permit) (img Image, err error) {
	travel, stop := context.WithCancel(ctx)
	baseDone := sync.OnceValue(r.startOnBase(travel, base))
	defer func() { // no hook outlives its build
		stop()
		_ = baseDone() // what failed before is what counts
	}()
	defer permit.release()
	looked := sync.OnceFunc(r.linkageBarrier.waiting.Done)
	defer looked()
	log := r.log.With("program", r.spec.Name, "platform", platform.Key(base.Platform))
	step := "compile"
	defer func() {
		if err != nil && ctx.Err() == nil {
			log.InfoContext(ctx, "failed", "step", step) // why is the caller's to print
		}
		if err != nil {
			err = &PlatformError{Platform: base.Platform, Step: step, Err: err}
		}
	}()
	img = Image{Platform: base.Platform, Base: base.baseImage.digest, BaseRef: base.Ref}
	err = guard.Report(ctx, log, platform.Key(base.Platform), func() error {
		if err := r.onto(ctx, &img, base, permit, &step, log); err != nil {
			return err
		}
		looked()
		permit.release()
		if err := baseDone(); err != nil {
			step = "base layers"
			return err
		}
		if r.hooks.OnImage != nil && r.linkageBarrier.opens() {
			step = "push"
			return r.hooks.OnImage(ctx, img)
		}
		return nil
	})
	return img, err
}

// onto makes the image of the program on its base.
func (r *buildRun) onto(ctx context.Context, img *Image, base PlannedBase, permit *permit, step *string, log *slog.Logger) error {
	how, err := r.spec.compile(base.Platform).expand(r.spec.Vars)
	if err != nil {
		return err
	}
	program := r.programs[programKey(base.Platform, how)]
	// The program's place is free for other builds once its layer is written: who
	// holds it holds a permit too, and waits for nobody who wants either.
	defer program.release()
	if r.recalled(ctx, img, base, how) {
		return nil
	}
	return r.make(ctx, img, base, how, permit, program, step, log)
}

// startOnBase lets the base's layers travel; wait gives the outcome when they have.
func (r *buildRun) startOnBase(ctx context.Context, base PlannedBase) (wait func() error) {
	if r.hooks.OnBase == nil || base.baseImage.image == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		done <- guard.Report(ctx, r.log, "OnBase of "+platform.Key(base.Platform), func() error {
			return r.hooks.OnBase(ctx, base.Platform, base.baseImage.image)
		})
	}()
	return func() error { return <-done }
}

// make compiles, and puts the program on its base. Compiling and compressing
// each keep a core busy, and hold a permit. Whose program another image compiles
// needs none: it waits for the other, which may be waiting for a permit.
func (r *buildRun) make(ctx context.Context, img *Image, base PlannedBase, how Compile, permit *permit, program *shared, step *string, log *slog.Logger) error {
	if program.claimed.Swap(true) {
		permit.release()
		<-program.done
	} else {
		if program.err = permit.wait(ctx); program.err == nil {
			log.InfoContext(ctx, "compiling")
			program.err = guard.Do(func() error { return r.compileShared(ctx, base.Platform, how, program) })
		}
		close(program.done)
	}
	if program.err != nil {
		return program.err
	}
	*step = "link"
	if err := r.linkage(base, how, program); err != nil {
		r.linkageBarrier.misfit.Store(true)
		return err
	}
	*step = "layer"
	log.InfoContext(ctx, "layering")
	img.Binary = program.binary
	parts := r.parts(program.entry)
	if r.spec.Debug {
		*step = "debugger"
		e, unlock, err := r.debugger(ctx, base.Platform)
		if err != nil {
			return err
		}
		defer unlock()
		parts = slices.Insert(parts, 1, part{"debugger", []entry{e}})
	}
	var err error
	img.Image, err = r.image(base, parts)
	return err
}

// errForgotten says that the cache lost what the memory of a build speaks of.
var errForgotten = errors.New("recorded, but not available")

// recalled makes the image of a program that is known and whose layer is in the
// cache, and reports whether it could. Should the layer turn out to be broken when
// it is sent, the program is compiled after all.
func (r *buildRun) recalled(ctx context.Context, img *Image, base PlannedBase, how Compile) bool {
	known, ok := r.buildRecord.program(base.Platform, how)
	if !ok {
		return false
	}
	ready := false
	program := programAt(r.spec, base.Platform, known.Content, known.Size, func() (io.ReadCloser, error) {
		if !ready {
			return nil, errForgotten
		}
		return r.again(ctx, base.Platform, how, known)
	})
	// A layer of its own maker, so that a failure is nobody else's.
	w := r.Builder.layers(ctx, r.spec)
	added, err := addedLayers(w, base.Platform, base.baseImage, r.parts(program))
	if err != nil {
		return false
	}
	if img.Image, err = assemble(r.spec, base.Platform, base.baseImage, added); err != nil {
		return false
	}
	img.info = func(ctx context.Context) (info *buildinfo.BuildInfo, err error) {
		err = r.remake(ctx, base.Platform, how, known, func(bin crosscompile.Binary, _ entry) error {
			info = bin.Info
			return nil
		})
		return info, err
	}
	ready = true
	return true
}

// again compiles a program that was known and opens it, if it is the same.
func (r *buildRun) again(ctx context.Context, p ocispec.Platform, how Compile, known compiled) (content io.ReadCloser, err error) {
	err = r.remake(ctx, p, how, known, func(_ crosscompile.Binary, program entry) error {
		content, err = program.open()
		return err
	})
	return content, err
}

// remake compiles a program that was known and looks at it while it stays what it
// is, if it is the same.
func (r *buildRun) remake(ctx context.Context, p ocispec.Platform, how Compile, known compiled, use func(crosscompile.Binary, entry) error) error {
	main, err := r.find(ctx, r.spec)
	if err != nil {
		return err
	}
	permit := r.permits.reserve(r.times.of(p, how))[0]
	defer permit.release()
	if err := permit.wait(ctx); err != nil {
		return err
	}
	other := *r
	other.spec.Main = main
	bin, unlock, err := other.compile(ctx, p, how)
	if err != nil {
		return err
	}
	defer unlock()
	program, err := programEntry(r.spec, p, bin.Path)
	if err != nil {
		return err
	}
	r.writeSum(bin.Path, program.content)
	if program.content != known.Content {
		return fmt.Errorf("the sources changed during the build: the program was %s and is %s", known.Content, program.content)
	}
	return use(bin, program)
}

// compile compiles for p. The program at Path stays what it is until unlock.
func (r *buildRun) compile(ctx context.Context, p ocispec.Platform, how Compile) (bin crosscompile.Binary, unlock func(), err error) {
	out, unlock, err := r.out(ctx, p, how)
	if err != nil {
		return bin, nil, err
	}
	leave := unlock
	defer func() {
		if err != nil {
			leave()
		}
	}()
	if r.checkSum(out) != nil { // a place that cannot be had
		if out, err = r.workFile(filepath.Base(filepath.Dir(out))); err != nil {
			return bin, nil, err
		}
	}
	request := crosscompile.Request{
		Dir: r.spec.Main.Dir, Package: r.spec.Main.ImportPath, Out: out, Temp: r.Work,
		Platform: p, Flags: append(how.Flags(), fmt.Sprintf("-p=%d", processes(r.permits.atOnce()))), Env: how.Env,
	}
	if how.Cgo {
		request.Cgo = &how.C
	}
	bin, err = r.goc.Compile(ctx, request)
	if err == nil {
		return bin, unlock, nil
	}
	if full := r.cache.FreeSpace(programRoom); full != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "compiling without the cache: "+full.Error())
		if request.Out, err = r.workFile(filepath.Base(filepath.Dir(out))); err == nil {
			bin, err = r.goc.Compile(ctx, request)
		}
	}
	return bin, unlock, err
}

// parts are what goes onto the base beside the debugger.
func (r *buildRun) parts(program entry) []part {
	return []part{{"files", r.files}, {"program", []entry{program}}}
}

// image puts the layers of all parts on their base.
func (r *buildRun) image(base PlannedBase, parts []part) (v1.Image, error) {
	added, err := addedLayers(r.layers, base.Platform, base.baseImage, parts)
	if err != nil {
		return nil, err
	}
	return assemble(r.spec, base.Platform, base.baseImage, added)
}
