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

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A buildRun is one call of [Builder.Build]. Its fields do not change while the platforms
// are built at the same time; what they point to has locks.
type buildRun struct {
	*Builder
	hooks  Hooks
	spec   Spec
	found  *found
	files  []layerfile.Entry
	layers *layerfile.Writer
	times  *times

	programs       map[string]*shared // by programKey, made by share
	linkageBarrier *linkageBarrier
}

// reservePermits reserves a permit to compile for each platform, in their order.
// Templates that fail to expand are reported later by the platform.
func (r *buildRun) reservePermits() []*permits.Permit {
	lengths := make([]time.Duration, len(r.spec.Platforms))
	for i, p := range r.spec.Platforms {
		lengths[i] = permits.Unknown
		if how, err := r.spec.settings(p); err == nil {
			lengths[i] = r.times.of(p, how)
		}
	}
	return r.permits.Reserve(lengths...)
}

// platform makes the image of one platform and calls its hooks. It releases the permit in
// every case, and as soon as the image is made: a hook that sends data holds no permit. A
// panic becomes an error of this platform.
func (r *buildRun) platform(ctx context.Context, base PlannedBase, permit *permits.Permit) (img Image, err error) {
	travel, stop := context.WithCancel(ctx)
	baseDone := sync.OnceValue(r.startOnBase(travel, base))
	// If this platform fails, the context of OnBase ends and OnBase is waited for. Its
	// error does not count then: the error that came first is the cause.
	defer func() {
		stop()
		_ = baseDone()
	}()
	defer permit.Release()
	looked := sync.OnceFunc(r.linkageBarrier.waiting.Done)
	defer looked()
	log := r.log.With("program", r.spec.Name, "platform", platform.Key(base.Platform))
	step := "compile"
	defer func() {
		if err != nil && ctx.Err() == nil {
			log.InfoContext(ctx, "failed", "step", step) // the caller prints the error
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
		permit.Release()
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

// onto makes the image of the program on its base, from a build record or by compiling.
func (r *buildRun) onto(ctx context.Context, img *Image, base PlannedBase, permit *permits.Permit, step *string, log *slog.Logger) error {
	how, err := r.spec.settings(base.Platform)
	if err != nil {
		return err
	}
	program := r.programs[programKey(base.Platform, how)]
	// The path of the program is unlocked when its layer is written. A goroutine that
	// holds this lock also holds a permit, or waits for none, so no other waits for it in
	// a circle.
	defer program.release()
	if r.recalled(ctx, img, base, how) {
		return nil
	}
	return r.make(ctx, img, base, how, permit, program, step, log)
}

// startOnBase starts the hook OnBase for a platform. wait waits until the hook has returned and
// returns its error. It must be called only once: a second call would block.
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

// make compiles the program and makes the image on its base. Compiling and compressing
// both use a core, so the permit covers both.
//
// If several images have the same program, the first one compiles it. The others release
// their permits before they wait for it: the first one may still wait for a permit, and
// would never get one if the others held all of them.
func (r *buildRun) make(ctx context.Context, img *Image, base PlannedBase, how Compile, permit *permits.Permit, program *shared, step *string, log *slog.Logger) error {
	if program.claimed.Swap(true) {
		permit.Release()
		<-program.done
	} else {
		if program.err = permit.Wait(ctx); program.err == nil {
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
	if r.spec.goPackage().Debug {
		*step = "debugger"
		e, unlock, err := r.debugger(ctx, base.Platform)
		if err != nil {
			return err
		}
		defer unlock()
		parts = slices.Insert(parts, 1, part{comment: "debugger", entries: []layerfile.Entry{e}})
	}
	var err error
	img.Image, err = r.image(r.layers, base, parts)
	return err
}

// errForgotten is returned if a layer has to be written from a build record, which has
// only the digest of the program.
var errForgotten = errors.New("recorded, but not available")

// recalled makes the image from a build record if the record has the program and the
// cache has its layer, and reports whether it did. The go command does not run.
//
// The cached file may turn out to be damaged while it is sent. The layer is then written
// again, which compiles the program. This is allowed only after recalled has succeeded
// (ready): until then a missing layer means that the program has to be compiled under the
// permit of its platform.
func (r *buildRun) recalled(ctx context.Context, img *Image, base PlannedBase, how Compile) bool {
	known, ok := r.found.record.Program(programKey(base.Platform, how))
	if !ok {
		return false
	}
	ready := false
	program := programAt(r.spec, base.Platform, known.Content, known.Size, func() (io.ReadCloser, error) {
		if !ready {
			return nil, errForgotten
		}
		return r.reopen(ctx, base.Platform, how, known)
	})
	// A failure of this maker must not be remembered for other platforms, so it is not
	// r.layers.
	w := r.Builder.layers(ctx, r.spec)
	image, err := r.image(w, base, r.parts(program))
	if err != nil {
		return false
	}
	img.Image = image
	img.info = func(ctx context.Context) (info *buildinfo.BuildInfo, err error) {
		err = r.remake(ctx, base.Platform, how, known, func(bin crosscompile.Binary, _ layerfile.Entry) error {
			info = bin.Info
			return nil
		})
		return info, err
	}
	ready = true
	return true
}

// reopen compiles a program of a build record and opens it, if it has the recorded
// content. The caller closes the reader.
func (r *buildRun) reopen(ctx context.Context, p ocispec.Platform, how Compile, known unchanged.Program) (content io.ReadCloser, err error) {
	err = r.remake(ctx, p, how, known, func(_ crosscompile.Binary, program layerfile.Entry) error {
		content, err = program.Open()
		return err
	})
	return content, err
}

// remake compiles a program of a build record, and calls use if it has the recorded
// content. The path is locked while use runs. The package is searched for again, which
// fetches a module that was pruned meanwhile. It waits for a permit, so the caller must
// hold none.
func (r *buildRun) remake(ctx context.Context, p ocispec.Platform, how Compile, known unchanged.Program, use func(crosscompile.Binary, layerfile.Entry) error) error {
	main, err := r.find(ctx, r.spec)
	if err != nil {
		return err
	}
	permit := r.permits.Reserve(r.times.of(p, how))[0]
	defer permit.Release()
	if err := permit.Wait(ctx); err != nil {
		return err
	}
	// The package may be in another directory now, if its module was fetched again.
	other := *r
	other.spec = r.spec.withMain(main)
	bin, unlock, err := other.compile(ctx, p, how)
	if err != nil {
		return err
	}
	defer unlock()
	program, err := programEntry(r.spec, p, bin.Path)
	if err != nil {
		return err
	}
	r.writeSum(bin.Path, program.Content)
	if program.Content != known.Content {
		return fmt.Errorf("the sources changed during the build: the program was %s and is %s", known.Content, program.Content)
	}
	return use(bin, program)
}

// compile compiles for p. The file at bin.Path does not change until unlock. If the
// compilation fails and the cache has no free space, it is tried again in the work
// directory.
func (r *buildRun) compile(ctx context.Context, p ocispec.Platform, how Compile) (bin crosscompile.Binary, unlock func(), err error) {
	out, unlock, err := r.out(ctx, p, how)
	if err != nil {
		return bin, nil, err
	}
	// After an error the lock is released here, and the caller need not call unlock.
	leave := unlock
	defer func() {
		if err != nil {
			leave()
		}
	}()
	// A damaged file that cannot be removed must not be found up to date.
	if r.checkSum(out) != nil {
		if out, err = r.workFile(filepath.Base(filepath.Dir(out))); err != nil {
			return bin, nil, err
		}
	}
	// -p is not part of the program's key: it does not change the program.
	request := crosscompile.Request{
		Dir: r.spec.goPackage().Main.Dir, Package: r.spec.goPackage().Main.ImportPath, Out: out, Temp: r.Work,
		Platform: p, Flags: append(how.Flags(), fmt.Sprintf("-p=%d", permits.Processes(r.permits.AtOnce()))), Env: how.Env,
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

// parts returns the content of the added layers. The files come first: they change less
// often than the program, and all platforms share their layer.
func (r *buildRun) parts(program layerfile.Entry) []part {
	return []part{{comment: "files", entries: r.files}, {comment: "program", entries: []layerfile.Entry{program}}}
}

// image makes the added layers of all parts with w and assembles the image.
func (r *buildRun) image(w *layerfile.Writer, base PlannedBase, parts []part) (v1.Image, error) {
	added, err := addedLayers(&r.baseFS, w, base.Platform, base.baseImage, parts)
	if err != nil {
		return nil, err
	}
	return assemble(r.spec, base.Platform, base.baseImage, added)
}
