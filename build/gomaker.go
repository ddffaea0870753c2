package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/baseimage"
	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/permits"
	"github.com/mabuild/mabuild/build/internal/sources"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A goMaker is the maker of a [GoPackage].
type goMaker struct {
	*Builder
	spec Spec // find completes it

	record   *unchanged.Record     // of the package
	known    bool                  // the record has the programs of all platforms
	debugger crosscompile.Package  // of Delve, with GoPackage.Debug
	times    *permits.Times        // of the package
	sources  *goSources            // of the package
	steady   map[*sourceList]bool  // by the end of this build; see proved
	earlier  crosscompile.Settings // as crosscompile.Request.Expected; set by goTask.ahead alone
}

// maker returns a goMaker that knows only s.
func (GoPackage) maker(b *Builder, s Spec) maker {
	return &goMaker{Builder: b, spec: s, record: &unchanged.Record{}, sources: &goSources{}, steady: map[*sourceList]bool{}}
}

// Mains returns the main packages that match the package of s, a pattern such as ./cmd/...,
// and that are not known; see [crosscompile.Go.Mains].
func (b *Builder) Mains(ctx context.Context, s Spec, known ...string) ([]string, error) {
	b.init(ctx)
	if err := sources.Check(b.goc, b.Within, s.Dir, s.goPackage().Package); err != nil {
		return nil, err
	}
	return b.goc.Mains(ctx, crosscompile.Query{Pattern: s.goPackage().Package, Dir: s.Dir, Aims: s.aims(), Known: known})
}

// BasePlatforms lists the platforms that [Spec.All] selects on a base: those that both
// the base and Go support, sorted. Each of them can also be built on its own.
func (b *Builder) BasePlatforms(ctx context.Context, ref string) ([]ocispec.Platform, error) {
	b.init(ctx)
	g := GoPackage{Main: crosscompile.Package{Dir: "."}}
	m := g.maker(b, Spec{Program: g})
	return (&baseimage.Reader{Source: b.Bases}).Platforms(ctx, ref, m.name(), m.platforms)
}

// find looks for the package, if neither the Spec nor a valid build record has it. For a
// Spec that [Builder.Resolve] has returned, it uses what Resolve found.
func (g *goMaker) find(ctx context.Context) (Spec, error) {
	p := g.spec.goPackage()
	if before, ok := g.resolved.Load(g.spec.query()); ok && p.Main.ImportPath != "" {
		g.record, g.debugger, g.sources = before.(*goMaker).record, before.(*goMaker).debugger, before.(*goMaker).sources
	} else if !p.Debug { // a build record describes one program, and a debug image has two
		g.record = g.records.Recall(layerfile.FormatVersion, g.spec.Dir, p.Package, p.AsMain)
	}
	main, known := g.spec.recorded(g.record)
	// A module that was fetched for module/path@version may have been pruned since then.
	g.known = known && main.Use(ctx) == nil
	switch {
	case g.known:
	case p.Main.ImportPath == "" && (g.guess(&main) || g.foresee(&main)):
	case p.Main.ImportPath == "":
		start := time.Now()
		var err error
		if main, err = g.search(ctx); err != nil {
			return g.spec, err
		}
		g.record.Begin(main, start)
	default:
		main = p.Main
	}
	g.spec = g.spec.withMain(main)
	if g.spec.Name == "" {
		g.spec.Name = main.Name
	}
	if main.Version != "" {
		g.spec.Vars.Version = main.Version
	}
	g.times = &permits.Times{Cache: g.cache, Name: main.Dir + "\x00" + main.ImportPath}
	return g.spec, nil
}

// query identifies the result of find: what was asked for, and the package that was
// found.
func (s Spec) query() string {
	g := s.goPackage()
	return fmt.Sprintf("%q %q %t %t %q", s.Dir, g.Package, g.AsMain, g.Debug, g.Main)
}

// remember keeps the build record and the debugger under what the Spec asks for.
func (g *goMaker) remember() { g.resolved.Store(g.spec.query(), g) }

// recorded returns the package of s, if s can be built without the go command: its build
// record is valid and has the programs of all platforms. With All the platforms are not
// known yet.
func (s Spec) recorded(record *unchanged.Record) (main crosscompile.Package, ok bool) {
	if main, ok = record.Main(); !ok || s.All {
		return main, false
	}
	// The linker flags may use the version of the module.
	if main.Version != "" {
		s.Vars.Version = main.Version
	}
	for _, p := range s.Platforms {
		how, err := s.settings(p)
		if err != nil {
			return main, false
		}
		if _, ok := record.Program(programKey(p, how)); !ok {
			return main, false
		}
	}
	return main, true
}

// search finds the package with the go command. Untrusted sources are checked first,
// since the go command quotes what it reads.
func (g *goMaker) search(ctx context.Context) (crosscompile.Package, error) {
	s, p := g.spec, g.spec.goPackage()
	if err := sources.Check(g.goc, g.Within, s.Dir, p.Package); err != nil {
		return crosscompile.Package{}, err
	}
	// A module that was fetched before is in the cache. If others can write to the cache,
	// they may have changed the module, so a sealed cache is not used for modules.
	scratch, err := g.cache.Dir("modules")
	if err != nil || g.cache.Sealed() {
		scratch = filepath.Join(g.Work, "modules")
	}
	q := crosscompile.Query{Pattern: p.Package, Dir: s.Dir, Scratch: scratch, AsMain: p.AsMain, Aims: s.aims()}
	found, err := g.goc.Find(ctx, q)
	// The cache may be on a disk that is full or has no locks. It is optional, so the
	// work directory is tried next.
	if unusable(err) && ctx.Err() == nil {
		g.log.DebugContext(ctx, "fetching the module without the cache: "+err.Error())
		q.Scratch = filepath.Join(g.Work, "modules")
		found, err = g.goc.Find(ctx, q)
	}
	// A failure of the network fails the whole build, so the error names all platforms.
	var pe *crosscompile.PackageError
	if errors.As(err, &pe) && pe.Unreachable {
		err = fmt.Errorf("%s: %w", s.wanted(), err)
	}
	return found, err
}

// unusable reports whether err comes from the operating system, as for a full disk, and
// not from the go command.
func unusable(err error) bool {
	return errors.As(err, new(syscall.Errno)) && !errors.As(err, new(*crosscompile.CommandError)) && !errors.Is(err, crosscompile.ErrNoGo)
}

// aims lists the platforms and build settings of s, each os and architecture once. They
// decide which files of a package count. It skips platforms that Go does not support;
// [crosscompile.Go.Check] reports these.
func (s Spec) aims() []crosscompile.Aim {
	var aims []crosscompile.Aim
	list := s.Platforms
	// The platforms are not known yet. The host may be none of them, so two common ones
	// are used.
	if s.All {
		list = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "windows", Architecture: "amd64"}}
	}
	for _, p := range list {
		// Variants do not decide which files of a package count.
		if _, err := crosscompile.Env(p); err != nil || slices.ContainsFunc(aims, func(a crosscompile.Aim) bool {
			return a.Platform.OS == p.OS && a.Platform.Architecture == p.Architecture
		}) {
			continue
		}
		how := s.goPackage().compile(p)
		aims = append(aims, crosscompile.Aim{Platform: p, Tags: how.Tags, Cgo: how.Cgo})
	}
	return aims
}

// wanted returns the names of the selected platforms for an error.
func (s Spec) wanted() string {
	if s.All {
		return "all platforms"
	}
	keys := make([]string, len(s.Platforms))
	for i, p := range s.Platforms {
		keys[i] = platform.Key(p)
	}
	return strings.Join(keys, ", ")
}

// supports asks the build record first, which may have the answer of Go.
func (g *goMaker) supports(ctx context.Context, p ocispec.Platform) error {
	if !g.known || !g.record.Supports(platform.Key(p)) {
		if err := g.goc.Check(ctx, g.spec.goPackage().Main.Dir, []ocispec.Platform{p}, nil); err != nil {
			return err
		}
	}
	g.record.AddSupport(platform.Key(p))
	return nil
}

// verb returns what a compiler does.
func (*goMaker) verb() (step, state string) { return "compile", "compiling" }

// name returns Go, which decides what there is a compiler for.
func (*goMaker) name() string { return "Go" }

// platforms asks Go for each platform separately, so that one unsupported platform does
// not hide the others. The variants of all platforms are the default ones.
func (g *goMaker) platforms(ctx context.Context, list []ocispec.Platform) (supported []ocispec.Platform, err error) {
	dir := g.spec.goPackage().Main.Dir
	if list == nil {
		return g.goc.Targets(ctx, dir)
	}
	for _, p := range list {
		err := g.goc.Check(ctx, dir, []ocispec.Platform{p}, nil)
		switch {
		case err == nil:
			supported = append(supported, p)
		case !errors.As(err, new(*crosscompile.TargetError)):
			return nil, err
		default:
			g.log.InfoContext(ctx, "skipped: "+err.Error())
		}
	}
	return supported, nil
}

// check asks nothing of Go if the programs of all platforms are known.
func (g *goMaker) check(ctx context.Context, list []ocispec.Platform) error {
	if g.known || g.sources.late {
		return nil
	}
	return errors.Join(g.goc.Check(ctx, g.spec.goPackage().Main.Dir, list, nil), g.spec.debuggable(list))
}

// prepare checks that a C compiler is installed for each platform that is built with
// cgo, and finds the debugger. Versions of Windows need the same compiler, so each os,
// architecture and variant is checked once.
func (g *goMaker) prepare(ctx context.Context, list []ocispec.Platform) (err error) {
	if g.known || g.sources.late {
		return nil
	}
	var linked []ocispec.Platform
	for _, p := range list {
		if p = target(p); g.linked(p) && !slices.ContainsFunc(linked, func(o ocispec.Platform) bool {
			return o.OS == p.OS && o.Architecture == p.Architecture && o.Variant == p.Variant
		}) {
			linked = append(linked, p)
		}
	}
	of := g.spec.goPackage()
	if len(linked) > 0 {
		err = g.goc.Check(ctx, of.Main.Dir, linked, &of.Compile.C)
	}
	if err == nil && of.Debug && g.debugger.ImportPath == "" {
		g.debugger, err = g.findDebugger(ctx)
	}
	return err
}

// programKey identifies a program among those of one package: its platform without the
// version of the operating system, and its compile settings with templates expanded.
func programKey(p ocispec.Platform, how Compile) string {
	b, err := json.Marshal([]any{platform.Key(target(p)), how})
	if err != nil { // cannot happen: there is nothing that JSON cannot hold
		panic(err)
	}
	return string(b)
}

// key fails if a template of the compile settings does.
func (g *goMaker) key(p ocispec.Platform) (string, error) {
	how, err := g.spec.settings(p)
	return programKey(p, how), err
}

// linked reports whether cgo is used.
func (g *goMaker) linked(p ocispec.Platform) bool { return g.spec.goPackage().compile(p).Cgo }

// expected returns the time of an earlier build.
func (g *goMaker) expected(p ocispec.Platform) time.Duration {
	key, err := g.key(p)
	if err != nil {
		return permits.Unknown // its platform reports the error
	}
	return g.times.Expected(key)
}

// recorded returns the program of the build record.
func (g *goMaker) recorded(p ocispec.Platform) (unchanged.Program, bool) {
	key, err := g.key(p)
	if err != nil {
		return unchanged.Program{}, false
	}
	return g.record.Program(key)
}

// make compiles the program and hashes it. It records the time, the checksum of the file
// and, for a program that needs nothing from its base, the build record. A program with a
// loader is compared with its base in every build, so it is not recorded.
func (g *goMaker) make(ctx context.Context, p ocispec.Platform, permit *permits.Permit, begin func(), s *shared) error {
	how, err := g.spec.settings(p)
	if err != nil {
		return err
	}
	t := &goTask{maker: g, ctx: ctx, platform: p, how: how, begin: begin, done: make(chan struct{})}
	if err := t.run(permit); err != nil {
		return err
	}
	g = t.maker
	s.binary, s.unlock, s.took = t.binary, t.unlock, t.took
	g.times.Add(programKey(p, how), t.took)
	if s.entry, err = programEntry(g.spec, p, s.binary.Path); err != nil {
		return err
	}
	g.writeSum(s.binary.Path, s.entry.Content)
	if s.linkage, err = linkageOf(s.binary.Path); err != nil {
		return err
	}
	if how.Cgo && how.C.Static {
		s.static = "cgo: static"
	}
	if sources := g.list(how); s.linkage.Interpreter == "" && sources.Sources != nil {
		sources.compiled(programKey(p, how), s.binary)
	}
	// Programs with cgo or with a named profile depend on files that are not sources.
	if s.linkage.Interpreter == "" && !how.Cgo && !how.profiled() {
		s.lent = g.goCache(ctx, p, how) != ""
		g.record.Add(programKey(p, how), unchanged.Program{Content: s.entry.Content, Size: s.entry.Size, Shared: s.lent})
	}
	return nil
}

// linkageOf reads the linkage of the program in a file.
func linkageOf(file string) (elf.Linkage, error) {
	f, err := os.Open(file)
	if err != nil {
		return elf.Linkage{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	return elf.ReadLinkage(f)
}

// remake searches for the package again, which fetches a module that was pruned
// meanwhile.
func (g *goMaker) remake(ctx context.Context, p ocispec.Platform, known unchanged.Program, use func(crosscompile.Binary, layerfile.Entry) error) error {
	how, err := g.spec.settings(p)
	if err != nil {
		return err
	}
	main, err := g.search(ctx)
	if err != nil {
		return err
	}
	permit := g.permits.Reserve(g.times.Expected(programKey(p, how)))[0]
	defer permit.Release()
	if err := permit.Wait(ctx); err != nil {
		return err
	}
	// The package may be in another directory now, if its module was fetched again.
	other := *g
	other.spec = g.spec.withMain(main)
	bin, unlock, err := other.compile(ctx, p, how)
	if err != nil {
		return err
	}
	defer unlock()
	program, err := programEntry(g.spec, p, bin.Path)
	if err != nil {
		return err
	}
	g.writeSum(bin.Path, program.Content)
	if program.Content != known.Content {
		return fmt.Errorf("the sources changed during the build: the program was %s and is %s", known.Content, program.Content)
	}
	return use(bin, program)
}

// compile compiles for p. The file at bin.Path does not change until unlock. If the
// compilation fails and the cache has no free space, it is tried again in the work
// directory.
func (g *goMaker) compile(ctx context.Context, p ocispec.Platform, how Compile) (bin crosscompile.Binary, unlock func(), err error) {
	out, unlock, err := g.out(ctx, p, how)
	if err != nil {
		return bin, nil, err
	}
	request := g.request(ctx, p, how, out, permits.Processes(g.permits.AtOnce()))
	request.Expected = g.earlier
	bin, err = g.goc.Compile(ctx, request)
	if err == nil {
		return bin, unlock, nil
	}
	if full := g.cache.FreeSpace(programRoom); full != nil && ctx.Err() == nil {
		g.log.WarnContext(ctx, "compiling without the cache: "+full.Error())
		if request.Out, err = g.workFile(filepath.Base(filepath.Dir(out))); err == nil {
			bin, err = g.goc.Compile(ctx, request)
		}
	}
	if err != nil {
		unlock()
		return bin, nil, err
	}
	return bin, unlock, nil
}

// request returns what compiles for p to out.
func (g *goMaker) request(ctx context.Context, p ocispec.Platform, how Compile, out string, processes int) crosscompile.Request {
	main := g.spec.goPackage().Main
	// -p is not part of the program's key: it does not change the program.
	r := crosscompile.Request{
		Dir: main.Dir, Package: main.ImportPath, Name: main.Name, Out: out, Temp: g.Work,
		Platform: p, Flags: append(how.flags(), fmt.Sprintf("-p=%d", processes)), Env: how.Env, Sources: g.source(p) != "",
	}
	if how.Cgo {
		r.Cgo = &how.C
	}
	if dir := g.goCache(ctx, p, how); dir != "" {
		r.Env = append(slices.Clone(r.Env), "GOCACHE="+dir)
	}
	return r
}

// goCache returns the cache that the go command uses, or "".
func (g *goMaker) goCache(ctx context.Context, p ocispec.Platform, how Compile) string {
	if g.GoCache == nil || how.Cgo {
		return ""
	}
	return g.GoCache(ctx, g.records.Release(), target(p))
}

// finish stores the times, and the build record after a success.
func (g *goMaker) finish(succeeded bool) {
	g.times.Store()
	if succeeded {
		g.record.Store()
	}
}
