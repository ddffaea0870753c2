// Package build makes an image index out of a Go program: Spec in, index out.
//
// A build is lazy and on disk, and its digest is known before a byte is sent.
// The same Spec, source, Go and bases give the same digest, on any host and in
// any directory.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Builder builds. It is safe for concurrent use: builds share its limits and
// what it has found out.
type Builder struct {
	Bases manifest.Source  // of bases other than Static and Scratch
	Go    *crosscompile.Go // nil: the go command on PATH
	Work  string           // an existing directory, removed by the caller after the last Put
	Cache string           // "": none; one that cannot be used costs time only
	Jobs  int              // compilers at once, 0: chosen from cores and memory

	Log *slog.Logger // nil: silent

	once    sync.Once
	goc     *crosscompile.Go
	store   *cache.Cache
	permits chan struct{}
	log     *slog.Logger
}

// Hooks are told of a build's progress. They may run at once, and an error of
// one fails the platform that it was told of.
type Hooks struct {
	// OnBase is told of a platform's base as soon as it is chosen, beside the
	// compiler. Its layers may travel already. Not called for Static and Scratch.
	OnBase func(ctx context.Context, p ocispec.Platform, base v1.Image) error
	// OnImage is told of a platform's image as soon as it is whole.
	OnImage func(ctx context.Context, i Image) error
}

// A Result is what came out of a Spec.
type Result struct {
	Index  v1.ImageIndex
	Images []Image // in the order of the Spec's platforms
}

// A PlatformError says for which platform, and at which step, a build ended.
type PlatformError struct {
	Platform ocispec.Platform
	Step     string // compile, layer, image, base layers or push
	Err      error
}

func (e *PlatformError) Error() string {
	var output *crosscompile.CommandError
	if errors.As(e.Err, &output) {
		return fmt.Sprintf("%s: %s:\n%s", platform.Key(e.Platform), e.Step, output)
	}
	return fmt.Sprintf("%s: %s: %v", platform.Key(e.Platform), e.Step, e.Err)
}

func (e *PlatformError) Unwrap() error { return e.Err }

func (b *Builder) init(ctx context.Context) {
	b.once.Do(func() {
		if b.log = b.Log; b.log == nil {
			b.log = slog.New(slog.DiscardHandler)
		}
		if b.goc = b.Go; b.goc == nil {
			b.goc = &crosscompile.Go{Log: b.log}
		}
		if b.Cache != "" {
			var err error
			if b.store, err = cache.Open(b.Cache); err != nil {
				b.store = nil
				b.log.WarnContext(ctx, "building without a cache: "+err.Error())
			}
		}
		jobs := b.Jobs
		if jobs <= 0 {
			jobs = defaultJobs()
		}
		b.permits = make(chan struct{}, jobs)
	})
}

// Resolve completes a Spec with what does not need the network or the compiler,
// except that module/path@version is fetched: it validates, finds the package
// and names the program after it, and asks whether Go builds for every platform.
func (b *Builder) Resolve(ctx context.Context, s Spec) (Spec, error) {
	b.init(ctx)
	s, err := s.Validate()
	if err != nil {
		return s, err
	}
	if s.Main.ImportPath == "" {
		scratch, err := b.store.Dir("modules")
		if err != nil {
			scratch = filepath.Join(b.Work, "modules")
		}
		s.Main, err = b.goc.Find(ctx, crosscompile.Query{Pattern: s.Package, Dir: s.Dir, Scratch: scratch, AsMain: s.AsMain})
		if err != nil {
			return s, err
		}
	}
	if s.Name == "" {
		s.Name = s.Main.Name
	}
	if s.Main.Version != "" {
		s.Vars.Version = s.Main.Version
	}
	return s, b.goc.Check(ctx, s.Main.Dir, s.Platforms)
}

// A Plan is what a build would do.
type Plan struct {
	Spec  Spec // complete, its Platforms those that All stood for
	Bases []PlannedBase
}

// A PlannedBase is the base of one platform.
type PlannedBase struct {
	Platform ocispec.Platform
	Ref      string
	Digest   v1.Hash // of its image for the platform, zero for Static and Scratch

	foundation foundation
}

// Plan resolves s and its bases, and compiles nothing.
func (b *Builder) Plan(ctx context.Context, s Spec) (*Plan, error) {
	s, err := b.Resolve(ctx, s)
	if err != nil {
		return nil, err
	}
	from := &bases{source: b.Bases, goc: b.goc, layers: b.layers(ctx, s)}
	if s.All {
		if s.Platforms, err = from.platforms(ctx, s); err != nil {
			return nil, err
		}
	}
	found, err := from.all(ctx, s)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Spec: s, Bases: make([]PlannedBase, len(found))}
	for i, f := range found {
		plan.Bases[i] = PlannedBase{Platform: s.Platforms[i], Ref: s.base(s.Platforms[i]), Digest: f.digest, foundation: f}
	}
	return plan, nil
}

func (b *Builder) layers(ctx context.Context, s Spec) *layers {
	return &layers{work: b.Work, cache: b.store, time: s.Time, alive: func() error { return context.Cause(ctx) }}
}

// Build makes the index of s: every platform, or an error that joins a
// [*PlatformError] for each that failed. The failure of one does not keep the
// others from being tried.
func (b *Builder) Build(ctx context.Context, s Spec, h Hooks) (*Result, error) {
	plan, err := b.Plan(ctx, s)
	if err != nil {
		return nil, err
	}
	s = plan.Spec
	files, err := fileEntries(s)
	if err != nil {
		return nil, err
	}
	r := &run{Builder: b, hooks: h, spec: s, files: files, layers: b.layers(ctx, s)}
	images := make([]Image, len(s.Platforms))
	errs := make([]error, len(s.Platforms))
	var wg sync.WaitGroup
	for i := range s.Platforms {
		wg.Go(func() { images[i], errs[i] = r.platform(ctx, plan.Bases[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	index, err := index(s, plan, images)
	if err != nil {
		return nil, err
	}
	return &Result{Index: index, Images: images}, nil
}

// index assembles the images. Where all stand on one index it says which.
func index(s Spec, plan *Plan, images []Image) (v1.ImageIndex, error) {
	children := make([]manifest.Child, len(images))
	for i, img := range images {
		d, err := manifest.Describe(img)
		if err != nil {
			return nil, err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		d.Platform = config.Platform()
		children[i] = manifest.Child{Descriptor: d, Content: img}
	}
	var annotations map[string]string
	if !s.Docker {
		first := plan.Bases[0].foundation
		same := true
		for _, base := range plan.Bases {
			same = same && base.foundation.root == first.root && base.foundation.name == first.name
		}
		annotations = map[string]string{}
		if same {
			annotations = baseAnnotations(first.name, first.root)
		}
		maps.Copy(annotations, s.Config.Annotations)
		maps.Copy(annotations, s.IndexAnnotations)
	}
	return manifest.Index(children, annotations)
}

// run is one build under way.
type run struct {
	*Builder
	hooks  Hooks
	spec   Spec
	files  []entry
	layers *layers
}

// platform takes one platform from its base to its image.
func (r *run) platform(ctx context.Context, base PlannedBase) (img Image, err error) {
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
	carried := r.carry(ctx, base)
	img = Image{Platform: base.Platform, Base: base.foundation.digest}
	// Compiling and compressing each keep a core busy, and hold a permit.
	release, err := r.permit(ctx)
	if err != nil {
		return img, err
	}
	defer release()
	log.InfoContext(ctx, "compiling")
	bin, unlock, err := r.compile(ctx, base.Platform)
	if err != nil {
		return img, err
	}
	defer unlock()
	img.Binary = bin
	step = "layer"
	log.InfoContext(ctx, "layering")
	img.Image, err = r.image(base, img.Binary)
	if err != nil {
		return img, err
	}
	unlock()
	release()
	if err := <-carried; err != nil {
		step = "base layers"
		return img, err
	}
	if r.hooks.OnImage != nil {
		step = "push"
		return img, r.hooks.OnImage(ctx, img)
	}
	return img, nil
}

// carry lets the base's layers travel and gives the outcome when they have.
func (r *run) carry(ctx context.Context, base PlannedBase) <-chan error {
	done := make(chan error, 1)
	if r.hooks.OnBase == nil || base.foundation.image == nil {
		done <- nil
		return done
	}
	go func() { done <- r.hooks.OnBase(ctx, base.Platform, base.foundation.image) }()
	return done
}

// permit waits for a compiler's place.
func (r *run) permit(ctx context.Context) (release func(), err error) {
	select {
	case r.permits <- struct{}{}:
		return sync.OnceFunc(func() { <-r.permits }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// compile compiles for p. The program at Path stays what it is until unlock.
func (r *run) compile(ctx context.Context, p ocispec.Platform) (bin crosscompile.Binary, unlock func(), err error) {
	how, err := r.spec.compile(p).expand(r.spec.Vars)
	if err != nil {
		return bin, nil, err
	}
	out, unlock, err := r.out(p, how)
	if err != nil {
		return bin, nil, err
	}
	env := how.Env
	if how.Cgo {
		env = append([]string{"CGO_ENABLED=1"}, env...)
	}
	bin, err = r.goc.Compile(ctx, crosscompile.Request{
		Dir: r.spec.Main.Dir, Package: r.spec.Main.ImportPath, Out: out, Temp: r.Work,
		Platform: p, Flags: how.Flags(), Env: env,
	})
	if err != nil {
		unlock()
		return bin, nil, err
	}
	return bin, unlock, nil
}

// image puts the program's layers on its base.
func (r *run) image(base PlannedBase, bin crosscompile.Binary) (v1.Image, error) {
	added, err := additions(r.layers, r.spec, base.Platform, base.foundation, r.files, bin.Path)
	if err != nil {
		return nil, err
	}
	return assemble(r.spec, base.Platform, base.foundation, added)
}

// out returns where the program is compiled to: always the same place for the
// same program and flags, so that the go command finds it up to date, and
// nobody else's while it is locked.
func (r *run) out(p ocispec.Platform, how Compile) (path string, unlock func(), err error) {
	main := r.spec.Main
	b, err := json.Marshal([]any{main.Dir, main.ImportPath, platform.Key(p), how})
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(b)
	key := hex.EncodeToString(sum[:16])
	if dir, err := r.store.Dir(filepath.Join("programs", key)); err == nil {
		if unlock, err := cache.Lock(filepath.Join(dir, "lock")); err == nil {
			return filepath.Join(dir, r.spec.Name), unlock, nil
		}
	}
	dir := filepath.Join(r.Work, "programs", key)
	return filepath.Join(dir, r.spec.Name), func() {}, os.MkdirAll(dir, 0o750)
}
