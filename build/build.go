// Package build makes an image index out of a Go program: Spec in, index out.
//
// A build is lazy and on disk, and its digest is known before a byte is sent.
// The same Spec, source, Go and bases give the same digest, on any host and in
// any directory.
//
// A [Spec] says what to build, a [Builder] builds it:
//
//	b := build.Builder{Bases: client, Work: dir}
//	result, err := b.Build(ctx, build.Spec{Package: "./cmd/app", Platforms: platforms}, build.Hooks{})
//	err = client.Put(ctx, "ghcr.io/acme/app:v1", result.Index)
//
// The platforms are a contract: all of them are in the index, or there is none. What
// is put, and where, is the caller's affair; any [manifest.Sink] takes an index, which
// reads its layers from the Builder's work directory, its cache, and the bases as they
// are sent. [Hooks] let a base and each image travel while others still compile.
//
// Errors are joined over all platforms: a [*PlatformError] says for which one, and
// at which step; [*SpecError] and [*BaseError] say what to change. Those with a
// method Hint know the way out. What the compiler said is a
// [*crosscompile.CommandError] in their chain.
package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

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
	Work  string           // an existing directory, no other Builder's; read until the last Put, then removed by the caller
	Cache string           // "": none; one that cannot be used costs time only. Others prune nothing that is in use
	// CacheKey is a secret, for a Cache that others can write to, such as one in a checkout:
	// what it remembers is believed only if a Builder with the same key stored it. nil: what
	// is there is believed.
	CacheKey []byte
	Jobs     int // compilers at once, 0: chosen from cores and memory
	// Within are directories that sources of a stranger may not lead out of, by links or by
	// what assembly includes; none: sources are trusted. Modules that lie elsewhere are.
	Within []string

	Log *slog.Logger // nil: silent

	once         sync.Once
	goc          *crosscompile.Go
	cache        *cache.Cache
	keeping      sync.Mutex    // of memories
	permits      *queue        // of compilers
	layerPermits chan struct{} // of those who write layers
	locks        locks         // of the places where programs are compiled to
	listings     batchedListing
	written      written    // layers
	reading      sync.Mutex // of bases
	log          *slog.Logger
}

// Hooks are told of a build's progress. They may run at once, and an error of
// one fails the platform that it was told of. None runs after Build has returned:
// where a platform fails otherwise, the context of its OnBase ends, and Build waits
// for it.
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
	Step     string // compile, link, layer, debugger, image, base layers or push
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
			if b.cache, err = cache.Sealed(b.Cache, b.CacheKey); err != nil {
				b.cache = nil
				b.log.WarnContext(ctx, "building without a cache: "+err.Error())
			}
			if err := b.cache.HoldForever(ctx); err != nil {
				b.log.DebugContext(ctx, err.Error())
			}
			b.listings.skip = b.cache.Parts()
		}
		jobs := b.Jobs
		if jobs <= 0 {
			jobs = defaultJobs()
		}
		b.permits, b.layerPermits = newQueue(jobs), make(chan struct{}, jobs)
	})
}

// Resolve completes a Spec with what does not need the network or the compiler,
// except that module/path@version is fetched: it validates, finds the package
// and names the program after it, and asks whether Go builds for every platform.
// Nothing is asked where the answers are known and cannot have changed: the Spec
// that comes back stands for the sources as they are now, and one that is edited
// later is not looked at again.
func (b *Builder) Resolve(ctx context.Context, s Spec) (Spec, error) {
	b.init(ctx)
	s, err := s.Validate()
	if err != nil {
		return s, err
	}
	if s.buildRecord == nil {
		s.buildRecord = &buildRecord{}
		if !s.Debug { // what is remembered is a program, and here are two
			s.buildRecord = b.recall(s)
		}
	}
	known := s.buildRecord.covers(s) && crosscompile.Use(ctx, s.buildRecord.record.Main.Dir) == nil
	switch {
	case known:
		s.Main = s.buildRecord.record.Main
	case s.Main.ImportPath == "":
		start := time.Now()
		if s.Main, err = b.find(ctx, s); err != nil {
			return s, err
		}
		b.begin(s.buildRecord, s.Main, start)
	}
	if s.Name == "" {
		s.Name = s.Main.Name
	}
	if s.Main.Version != "" {
		s.Vars.Version = s.Main.Version
	}
	if err := b.strayKeys(ctx, s, known); err != nil {
		return s, err
	}
	s, err = s.expand()
	if known {
		return s, err
	}
	err = errors.Join(err, b.goc.Check(ctx, s.Main.Dir, s.Platforms), s.debuggable())
	if err == nil && !s.All { // what All stands for is for Plan to find out
		err = b.compilers(ctx, s)
	}
	if err == nil && s.Debug && s.debugger.ImportPath == "" {
		s.debugger, err = b.findDebugger(ctx, s)
	}
	return s, err
}

// strayKeys looks at what is said for single platforms that are not built: one
// that Go does not know is a mistake, another is worth a word. Go is not asked again
// where all else is known.
func (b *Builder) strayKeys(ctx context.Context, s Spec, known bool) error {
	var errs []error
	for key := range keysOf(s.Bases, s.Overrides) {
		p, err := platform.Parse(key)
		if err == nil && (s.All || slices.ContainsFunc(s.Platforms, func(o ocispec.Platform) bool { return platform.Compare(o, p) == 0 })) {
			continue
		}
		if err == nil && (!known || !s.buildRecord.aimed(p)) {
			err = b.goc.Check(ctx, s.Main.Dir, []ocispec.Platform{p})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("settings for %s: %w", key, err))
			continue
		}
		s.buildRecord.aim(p)
		b.log.DebugContext(ctx, "ignored the settings for "+key+", which is not built")
	}
	return errors.Join(errs...)
}

// keysOf gives the keys of both maps.
func keysOf(bases map[string]string, overrides map[string]Compile) map[string]bool {
	all := map[string]bool{}
	for key := range bases {
		all[key] = key != "default"
	}
	for key := range overrides {
		all[key] = true
	}
	maps.DeleteFunc(all, func(_ string, counts bool) bool { return !counts })
	return all
}

// A Plan is what a build would do.
type Plan struct {
	Spec  Spec // complete, its Platforms those that All stood for, with the versions of Windows
	Bases []PlannedBase

	files []entry
}

// A PlannedBase is the base of one platform.
type PlannedBase struct {
	Platform ocispec.Platform
	Ref      string
	Digest   v1.Hash // of its image for the platform, zero for Static and Scratch

	baseImage baseImage
}

// Plan resolves s and its bases, and compiles nothing.
func (b *Builder) Plan(ctx context.Context, s Spec) (*Plan, error) {
	s, err := b.Resolve(ctx, s)
	if err != nil {
		return nil, err
	}
	from := &bases{source: b.Bases, goc: b.goc, log: b.log, layers: b.layers(ctx, s)}
	if s.All {
		s.Platforms, err = from.platforms(ctx, s)
	} else {
		s.Platforms, err = from.versions(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	if err := s.debuggable(); err != nil {
		return nil, err
	}
	found, err := from.all(ctx, s)
	files, filesErr := fileEntries(s, func(text string) { b.log.WarnContext(ctx, text) })
	if err := errors.Join(err, filesErr); err != nil {
		return nil, err
	}
	if s.All {
		if err := b.compilers(ctx, s); err != nil {
			return nil, err
		}
	}
	plan := &Plan{Spec: s, files: files, Bases: make([]PlannedBase, len(found))}
	for i, f := range found {
		plan.Bases[i] = PlannedBase{Platform: s.Platforms[i], Ref: s.base(s.Platforms[i]), Digest: f.digest, baseImage: f}
	}
	if err := s.accounts(plan.Bases, files, from.layers); err != nil {
		return nil, err
	}
	return plan, nil
}

func (b *Builder) layers(ctx context.Context, s Spec) *layers {
	return &layers{work: b.Work, cache: b.cache, time: s.Time, compression: s.Compression, permits: b.layerPermits, written: &b.written, reading: &b.reading, alive: func() error { return context.Cause(ctx) }}
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
	r := &buildRun{Builder: b, hooks: h, spec: s, files: plan.files, layers: b.layers(ctx, s), buildRecord: s.buildRecord, times: b.times(s)}
	r.linkageBarrier = newLinkageBarrier(s)
	r.share(plan.Bases)
	images := make([]Image, len(s.Platforms))
	errs := make([]error, len(s.Platforms))
	var wg sync.WaitGroup
	places := r.reservePermits()
	for i := range s.Platforms {
		wg.Go(func() { images[i], errs[i] = r.platform(ctx, plan.Bases[i], places[i]) })
	}
	wg.Wait()
	r.times.store(b)
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, b.cramped(ctx, errs))
	}
	b.storeRecord(r.buildRecord)
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
		first := plan.Bases[0].baseImage
		same := true
		for _, base := range plan.Bases {
			same = same && base.baseImage.root == first.root && base.baseImage.name == first.name
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
