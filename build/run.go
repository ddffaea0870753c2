package build

import (
	"archive/tar"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A buildRun is one call of [Builder.Build]. Its fields do not change while the platforms
// are built at the same time; what they point to has locks.
type buildRun struct {
	*Builder
	hooks  Hooks
	spec   Spec
	maker  maker
	files  []layerfile.Entry
	layers *layerfile.Writer

	programs       map[string]*shared // by maker.key, made by share
	packages       sync.Map           // of *packageLayer, by platform.Key, set by onto
	linkageBarrier *linkageBarrier
}

// reservePermits reserves a permit to compile for each platform, in their order.
func (r *buildRun) reservePermits() []*permits.Permit {
	lengths := make([]time.Duration, len(r.spec.Platforms))
	for i, p := range r.spec.Platforms {
		lengths[i] = r.maker.expected(p)
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
	step, _ := r.maker.verb()
	defer func() {
		if err != nil && ctx.Err() == nil {
			log.InfoContext(ctx, "failed", "step", step) // the caller prints the error
		}
		if err != nil {
			err = &PlatformError{Platform: base.Platform, Step: step, Err: err}
		}
	}()
	img = Image{Platform: base.Platform, Base: base.baseImage.Digest, BaseRef: base.Ref, Began: time.Now()}
	if base.baseImage.Root != img.Base {
		img.Index = base.baseImage.Root
	}
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
	key, err := r.maker.key(base.Platform)
	if err != nil {
		return err
	}
	program := r.programs[key]
	// The path of the program is unlocked when its layer is written. A goroutine that
	// holds this lock also holds a permit, or waits for none, so no other waits for it in
	// a circle.
	defer program.release()
	made, err := r.addPackages(ctx, base)
	if err != nil {
		*step = "packages"
		return err
	}
	img.Packages = made.Added
	r.packages.Store(platform.Key(base.Platform), made)
	if !r.hooks.Anew && r.recalled(ctx, img, base) {
		return nil
	}
	if ok, err := r.fetched(ctx, img, base); ok || err != nil {
		if img.Recalled {
			log.InfoContext(ctx, "recalled")
		}
		return err
	}
	if r.hooks.Kept {
		key := img.Key
		img.Key = "" // of a build record, it is not proved yet
		if r.recalled(ctx, img, base) {
			return nil
		}
		img.Key = key
	}
	return r.make(ctx, img, base, permit, program, step, log)
}

// startOnBase starts the hook OnBase for a platform. wait waits until the hook has returned and
// returns its error. It must be called only once: a second call would block.
func (r *buildRun) startOnBase(ctx context.Context, base PlannedBase) (wait func() error) {
	if r.hooks.OnBase == nil || base.baseImage.Image == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		done <- guard.Report(ctx, r.log, "OnBase of "+platform.Key(base.Platform), func() error {
			return r.hooks.OnBase(ctx, base.Platform, base.baseImage.Image)
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
func (r *buildRun) make(ctx context.Context, img *Image, base PlannedBase, permit *permits.Permit, program *shared, step *string, log *slog.Logger) error {
	if program.claimed.Swap(true) {
		permit.Release()
		<-program.done
	} else {
		begin := func() {
			img.Began = time.Now()
			_, state := r.maker.verb()
			log.InfoContext(ctx, state)
		}
		program.err = guard.Do(func() error { return r.maker.make(ctx, base.Platform, permit, begin, program) })
		close(program.done)
	}
	if program.err != nil {
		return program.err
	}
	*step = "link"
	if err := r.linkage(base, program); err != nil {
		r.linkageBarrier.misfit.Store(true)
		return err
	}
	*step = "layer"
	log.InfoContext(ctx, "layering")
	img.Binary, img.Took, img.Content, img.lent = program.binary, program.took, program.entry.Content, program.lent
	extras, unlock, err := r.maker.extras(ctx, base.Platform, step)
	if err != nil {
		return err
	}
	defer unlock()
	img.Image, err = r.image(r.layers, base, slices.Insert(r.parts(program.entry), 1, extras...))
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
func (r *buildRun) recalled(ctx context.Context, img *Image, base PlannedBase) bool {
	known, ok := r.maker.recorded(base.Platform)
	if !ok {
		return false
	}
	ready := false
	program := layerfile.Entry{Name: entryName(r.spec, base.Platform), Kind: tar.TypeReg, Mode: programMode, Size: known.Size, Content: known.Content}
	program.Open = func() (io.ReadCloser, error) {
		if !ready {
			return nil, errForgotten
		}
		var content io.ReadCloser
		err := r.maker.remake(ctx, base.Platform, known, func(_ crosscompile.Binary, program layerfile.Entry) (err error) {
			content, err = program.Open()
			return err
		})
		return content, err
	}
	// A failure of this writer must not be remembered for other platforms, so it is not
	// r.layers.
	w := r.Builder.layers(ctx, r.spec)
	part := program
	keys := r.Recalls && !known.Shared && known.Source != unchanged.Unforeseen
	if keys {
		part = keyed(w, program, known.Source, &img.Key)
	}
	image, err := r.image(w, base, r.parts(part))
	if err != nil {
		img.Key = ""
		return false
	}
	img.Image, img.Content = image, known.Content
	if keys {
		img.prove = func(ctx context.Context) string { return r.prove(ctx, *img, base, program) }
		img.inputs = func() map[string]string { list, _ := r.maker.inputs(base.Platform); return list }
	}
	img.info = func(ctx context.Context) (info *buildinfo.BuildInfo, err error) {
		err = r.maker.remake(ctx, base.Platform, known, func(bin crosscompile.Binary, _ layerfile.Entry) error {
			info = bin.Info
			return nil
		})
		return info, err
	}
	ready = true
	return true
}

// parts returns the content of the added layers. The files come first: they change less
// often than the program, and all platforms share their layer.
func (r *buildRun) parts(program layerfile.Entry) []placement.Part {
	return []placement.Part{{Comment: "files", Entries: r.files}, {Comment: "program", Entries: []layerfile.Entry{program}, OwnNames: true}}
}

// packageLayer returns the layer of packages, which onto has made.
func (r *buildRun) packageLayer(base PlannedBase) *packageLayer {
	made, _ := r.packages.Load(platform.Key(base.Platform))
	return made.(*packageLayer) //nolint:forcetypeassert // see above
}

// image makes the added layers of all parts with w, above that of the packages, and assembles
// the image.
func (r *buildRun) image(w *layerfile.Writer, base PlannedBase, parts []placement.Part) (v1.Image, error) {
	for _, part := range parts {
		for _, e := range part.Entries {
			if part.OwnNames && slices.Contains(r.packageLayer(base).Names, e.Name) {
				return nil, &SpecError{Field: "path", Reason: fmt.Sprintf("/%s is a file of the packages, and the %s would replace it", e.Name, part.Comment), Way: "use another path"}
			}
		}
	}
	parts = slices.Insert(slices.Clone(parts), 0, placement.Part{Comment: "packages", Layer: r.packageLayer(base).layer})
	added, err := placement.Layers(&r.baseFS, w, base.Platform, base.baseImage.Layers, parts)
	if err != nil {
		return nil, err
	}
	s := r.spec
	s.Config = r.maker.config(base.Platform, s.Config)
	return assemble(s, base.Platform, base.baseImage, added)
}

// cramped returns an error if the work directory has no room, which neither
// compilers nor linkers say clearly, and something failed that needs it.
func (b *Builder) cramped(ctx context.Context, errs []error) error {
	needed := false
	for _, err := range errs {
		var pe *PlatformError
		needed = needed || errors.As(err, &pe) && (pe.Step == "compile" || pe.Step == "layer")
	}
	if !needed || ctx.Err() != nil {
		return nil
	}
	err := cache.FreeSpaceIn(b.Work, programRoom)
	if err == nil {
		return nil
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) { // of a temporary file; its name does not help
		err = pe.Err
	}
	return hint.New(hint.Build, "set TMPDIR to use another directory", "work directory %s: %w", b.Work, err)
}
