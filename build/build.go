// Package build makes an image index from a program and a base image for each platform. The
// program is a Go package that it compiles, or exists already.
//
// The layers of the result are lazy or in files, and its digest is known before anything
// is sent. The same Spec, sources, Go version and base images give the same digest, on
// any host and in any directory.
//
// A [Spec] says what to build, and a [Builder] builds it:
//
//	b := build.Builder{Bases: client, Work: dir}
//	result, err := b.Build(ctx, build.Spec{Program: build.GoPackage{Package: "./cmd/app"}, Platforms: platforms}, build.Hooks{})
//	err = client.Put(ctx, "ghcr.io/acme/app:v1", result.Index)
//
// An index has all platforms of its Spec: if one of them fails, Build returns no index.
// This package does not push. The caller puts the index into any [manifest.Sink], which
// reads the layers from the work directory and the cache of the Builder, and from the
// source of the base images. [Hooks] start the transfer of a base image or of a finished
// image while other platforms are still compiled.
//
// Work is skipped only if its result is known. A build record says what a package was
// compiled to; it is used only if the go command, its settings and all source files are
// unchanged. A cached layer is identified by the content of its entries. Both are
// optional: without a cache the result is the same and takes longer.
//
// Errors are joined over all platforms. A [*PlatformError] has the platform and the step;
// a [*SpecError] or [*BaseError] says what to change. Errors that have a method Hint say
// what the user can do. The output of the compiler is a [*crosscompile.CommandError] in
// the chain.
package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/basefs"
	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/debs"
	"github.com/mabuild/mabuild/build/internal/filelist"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Builder builds Specs. The exported fields must not be changed after the first call.
// It is safe for concurrent use: concurrent builds share its permits, its locks and its
// listings of source files.
type Builder struct {
	Bases manifest.Source  // reads base images other than Static and Scratch
	Go    *crosscompile.Go // nil: the go command on PATH
	// Work is an existing directory that no other Builder uses. Results read their layers
	// from it, so the caller removes it after the last Put.
	Work string
	// Cache is the directory of a cache that several processes may share; "" disables it.
	// A cache that cannot be used costs time only. Pruning by another process removes
	// nothing that this Builder uses.
	Cache string
	// CacheKey is a secret for a Cache that others can write to, such as one in a
	// checkout. Records of the cache are used only if a Builder with the same key stored
	// them. With nil all records are used.
	CacheKey []byte
	Jobs     int // compilers that run at once; 0: chosen from cores and memory
	// Within lists the directories of untrusted sources. Links and assembly includes of a
	// module in one of them must not lead outside. Modules elsewhere are trusted; with no
	// directories all sources are.
	Within []string

	// Recalls says that builds have [Hooks.Recall]. Resolve then leaves it to the build to
	// run the go command, if Recall does not have a program.
	Recalls bool

	// GoCache returns the directory of the cache of the go command for a release of Go and a
	// platform; "" and nil leave it to the go command. It is not asked for programs with cgo.
	// What is in it decides what is compiled.
	GoCache func(ctx context.Context, release string, p ocispec.Platform) string

	// Download returns the path of a file with the content of a URL, which has this sha256.
	// It may be called by several goroutines at once. A [Prebuilt] and Packages need it.
	Download func(ctx context.Context, url, sha256 string) (path string, err error)

	Log *slog.Logger // nil: silent

	// The fields below are set once by init or are ready as zero values.
	//
	// Permits and locks are taken in this order: a permit of permits, then locks of locks
	// (that of a program before that of its debugger), then a permit of layerPermits. A
	// goroutine that waits for one of them holds only earlier ones, so there is no
	// deadlock. The locks of programs that are compiled together are taken in their order.
	once         sync.Once
	goc          *crosscompile.Go
	cache        *cache.Cache
	records      *unchanged.Store // of what packages were compiled to
	resolved     sync.Map         // of makers, by what Resolve looked up
	permits      *permits.Queue   // for compilers
	layerPermits chan struct{}    // for layers that are written
	locks        sync.Map         // of channels, by key: for the output paths of programs
	written      sync.Map         // digests of layers that this Builder wrote to the cache
	baseFS       basefs.Reader    // of the file systems of bases
	debs         debs.Maker       // of unpacked packages
	log          *slog.Logger
}

// Hooks are called while a build runs, from several goroutines at once. An error of a
// hook fails the platform that it was called for. No hook runs after Build has returned:
// if a platform fails, Build cancels the context of its OnBase and waits for OnBase to
// return.
type Hooks struct {
	// OnBase is called with the base image of a platform before the platform is compiled,
	// and runs at the same time as the compiler. It may transfer the layers of the base.
	// It is not called for Static and Scratch.
	OnBase func(ctx context.Context, p ocispec.Platform, base v1.Image) error
	// OnImage is called with the complete image of a platform. With cgo it is called only
	// when the programs of all platforms have been compiled, and not at all if one of
	// them does not match its base.
	OnImage func(ctx context.Context, i Image) error
	// Recall returns the layer of a program that was compiled elsewhere. The key is the
	// sha256, in hexadecimal digits, of all that decides the layer; see [Image]. The error
	// is fs.ErrNotExist if there is none, and any other error fails the platform. The layer
	// may be anything: its content is checked before it is read. It is asked for only with
	// [Builder.Recalls], and only if this machine does not remember the program.
	Recall func(ctx context.Context, p ocispec.Platform, key string) (v1.Layer, error)
	// Spoilt is called if a recalled layer cannot be read, or is not one of the program.
	// What reads it fails; a build without Recall succeeds.
	Spoilt func(p ocispec.Platform, err error)
	// Check reads each recalled layer before it is used. One that is spoilt is compiled; Spoilt
	// is called, and nothing fails.
	Check bool
	// Anew ignores what this machine remembers: a program that has a key is recalled or
	// compiled.
	Anew bool
	// Kept, with Anew, uses what this machine remembers, if Recall has no layer: one that was
	// made for the same key, or a build record. [Image.Keyed] finds the key of the latter.
	Kept bool
}

// A Result is what was built from a Spec. Its content stays readable while the work
// directory of the Builder exists.
type Result struct {
	Index  v1.ImageIndex
	Images []Image // in the order of the Spec's platforms
}

// A PlatformError says for which platform, and in which step, a build failed.
type PlatformError struct {
	Platform ocispec.Platform
	Step     string // packages, compile, read, link, layer, debugger, base layers or push
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

// init prepares the unexported fields once. An unusable cache is logged and leaves store
// nil, which all methods of the cache accept. The hold on the cache is never released:
// results read from it until the process ends.
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
		}
		b.baseFS.Cache = b.cache
		b.debs.Work, b.debs.Download = b.Work, b.Download
		b.records = &unchanged.Store{Cache: b.cache, Go: b.goc, Skip: b.cache.Parts()}
		jobs := b.Jobs
		if jobs <= 0 {
			jobs = permits.Jobs()
		}
		b.permits, b.layerPermits = permits.New(jobs), make(chan struct{}, jobs)
	})
}

// Resolve validates a Spec and completes it without compiling. It finds the package, sets
// the default of Name, expands templates and checks that Go, and with cgo the C compiler,
// supports each platform. It needs the network only to fetch module/path@version.
//
// If a build record covers s, and no input has changed, Resolve does not run the go
// command. If files have changed, it leaves it to the build to ask the go command while the
// compiler runs, so what is wrong with a package may be reported that late. The returned Spec describes the sources at this moment; passing it to Resolve
// again does not detect later changes.
func (b *Builder) Resolve(ctx context.Context, s Spec) (Spec, error) {
	s, m, err := b.resolve(ctx, s)
	if err == nil {
		m.remember()
	}
	return s, err
}

// resolve is Resolve, and also returns the maker of the program.
func (b *Builder) resolve(ctx context.Context, s Spec) (Spec, maker, error) {
	b.init(ctx)
	s, err := s.Validate()
	if err != nil {
		return s, nil, err
	}
	m := s.Program.maker(b, s)
	if s, err = m.find(ctx); err != nil {
		return s, nil, err
	}
	if err := b.strayKeys(ctx, s, m); err != nil {
		return s, nil, err
	}
	s, err = s.expand()
	if err := errors.Join(err, m.check(ctx, s.Platforms)); err != nil {
		return s, nil, err
	}
	list := s.Platforms
	if s.All {
		list = nil // only Plan knows them
	}
	return s, m, m.prepare(ctx, list)
}

// strayKeys checks the settings for single platforms that are not built. A platform that
// the program cannot be made for is probably a mistake and an error. Another one is logged,
// since a configuration may serve several selections of platforms.
func (b *Builder) strayKeys(ctx context.Context, s Spec, m maker) error {
	var errs []error
	keys := slices.AppendSeq(s.Program.overridden(), maps.Keys(s.Bases))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		p, err := platform.Parse(key)
		if key == "default" || err == nil && (s.All || slices.ContainsFunc(s.Platforms, func(o ocispec.Platform) bool { return platform.Compare(o, p) == 0 })) {
			continue
		}
		if err == nil {
			err = m.supports(ctx, p)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("settings for %s: %w", key, err))
			continue
		}
		b.log.DebugContext(ctx, "ignored the settings for "+key+", which is not built")
	}
	return errors.Join(errs...)
}

// A Plan says what a build of a Spec would do at this moment.
type Plan struct {
	// Spec is complete. Its Platforms are those that All selected, or the given ones with
	// the Windows versions of their bases.
	Spec  Spec
	Bases []PlannedBase // one for each platform of Spec, in the same order

	maker maker // of the program
	files []layerfile.Entry
}

// A PlannedBase is the base image of one platform.
type PlannedBase struct {
	Platform ocispec.Platform
	Ref      string
	Digest   v1.Hash // of the image for the platform, zero for Static and Scratch
	// With [Builder.Recalls], Inputs returns that of the image. Source names what the program is
	// compiled from, or says why the image will have no key. Both read the sources.
	Inputs func() map[string]string
	Source func() (name, noKey string)

	baseImage baseimage.Image
}

// Plan resolves s and its base images, and compiles nothing. It reads and hashes the
// files of [Spec.Files]; it reads layers of a base only if the user or group is a name.
// All missing platforms, base images and files are in one error.
func (b *Builder) Plan(ctx context.Context, s Spec) (*Plan, error) {
	plan, err := b.plan(ctx, s)
	if err != nil {
		return nil, err
	}
	return plan, plan.maker.ready(ctx)
}

// plan is Plan without what the maker has put off.
func (b *Builder) plan(ctx context.Context, s Spec) (*Plan, error) {
	s, m, err := b.resolve(ctx, s)
	if err != nil {
		return nil, err
	}
	from := &baseimage.Reader{Source: b.Bases, Layers: b.layers(ctx, s)}
	switch {
	case s.All:
		if s.Platforms, err = from.Platforms(ctx, s.Base, m.name(), m.platforms); err == nil {
			err = m.check(ctx, s.Platforms)
		}
	case !s.Newest:
		s.Platforms, err = from.Versions(ctx, s.Platforms, s.base)
	}
	if err != nil {
		return nil, err
	}
	images, err := from.Images(ctx, s.Platforms, s.base)
	// The files are listed even if a base is missing: both errors are reported at once.
	files, filesErr := filelist.Entries(s.Dir, s.Files, func(text string) { b.log.WarnContext(ctx, text) })
	if err := errors.Join(err, filesErr); err != nil {
		return nil, err
	}
	if s.All {
		if err := m.prepare(ctx, s.Platforms); err != nil {
			return nil, err
		}
	}
	plan := &Plan{Spec: s, maker: m, files: files, Bases: make([]PlannedBase, len(images))}
	for i, image := range images {
		plan.Bases[i] = PlannedBase{Platform: s.Platforms[i], Ref: s.base(s.Platforms[i]), Digest: image.Digest, baseImage: image}
		if b.Recalls {
			plan.Bases[i].Inputs = func() map[string]string { list, _ := m.inputs(s.Platforms[i]); return list }
			plan.Bases[i].Source = func() (name, noKey string) {
				if name = m.source(s.Platforms[i]); name == "" {
					_, noKey = m.inputs(s.Platforms[i])
				}
				return name, noKey
			}
		}
	}
	if err := s.accounts(plan.Bases, files, &b.baseFS); err != nil {
		return nil, err
	}
	return plan, nil
}

// layers returns a maker of layers for s. Layers that are being written stop when ctx
// ends.
func (b *Builder) layers(ctx context.Context, s Spec) *layerfile.Writer {
	return &layerfile.Writer{
		Work: b.Work, Cache: b.cache, Time: s.Time, Format: s.Compression.Format, Level: s.Compression.Level,
		Permits: b.layerPermits, Written: &b.written, Alive: func() error { return context.Cause(ctx) },
	}
}

// Build makes the index of s. If a platform fails, Build still tries the others, and
// returns an error that joins a [*PlatformError] for each one that failed.
func (b *Builder) Build(ctx context.Context, s Spec, h Hooks) (*Result, error) {
	b.init(ctx)
	planned := b.permits.Announce()
	defer planned()
	plan, err := b.plan(ctx, s)
	if err != nil {
		return nil, err
	}
	s = plan.Spec
	r := &buildRun{Builder: b, hooks: h, spec: s, maker: plan.maker, files: plan.files, layers: b.layers(ctx, s)}
	r.linkageBarrier = newLinkageBarrier(plan)
	r.share(plan.Bases)
	images := make([]Image, len(s.Platforms))
	errs := make([]error, len(s.Platforms))
	var wg sync.WaitGroup
	// All permits are reserved before the first goroutine starts. The queue can then
	// serve the longest compilation first, whichever goroutine is scheduled first.
	permits := r.reservePermits()
	planned()
	for i := range s.Platforms {
		wg.Go(func() { images[i], errs[i] = r.platform(ctx, plan.Bases[i], permits[i]) })
	}
	wg.Wait()
	failed := errors.Join(errs...)
	if failed == nil {
		r.remember(images)
	}
	r.maker.finish(failed == nil)
	// What was put off fails for all platforms in the same way.
	if late := (*lateError)(nil); errors.As(failed, &late) {
		return nil, late.error
	}
	if failed != nil {
		return nil, errors.Join(failed, b.cramped(ctx, errs))
	}
	index, err := index(s, plan, images)
	if err != nil {
		return nil, err
	}
	return &Result{Index: index, Images: images}, nil
}

// index makes the index of the images. If all platforms use the same base, its
// annotations name this base. An index with Docker's media types has no annotations.
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
		// The platform of an entry is that of the config, so that both always agree.
		d.Platform = config.Platform()
		children[i] = manifest.Child{Descriptor: d, Content: img}
	}
	var annotations map[string]string
	if !s.Docker {
		first := plan.Bases[0].baseImage
		same := true
		for _, base := range plan.Bases {
			same = same && base.baseImage.Root == first.Root && base.baseImage.Name == first.Name
		}
		// The annotations of the user come last and replace those of the base.
		annotations = map[string]string{}
		if same {
			annotations = baseAnnotations(first.Name, first.Root)
		}
		maps.Copy(annotations, s.Config.Annotations)
		maps.Copy(annotations, s.IndexAnnotations)
	}
	return manifest.Index(children, annotations)
}
