package build

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/sources"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
)

// goSources are what the programs of one package are compiled from. Makers of one package
// share them.
type goSources struct {
	late   bool // the go command has not been asked; see goMaker.ready
	beside bool // it is asked while the compiler runs; see goMaker.foresee
	// settings are those of the go command that are expected meanwhile; nil: it is asked for them
	// before it compiles.
	settings crosscompile.Settings

	asking  sync.Mutex           // held while it is asked, and guards found and refused
	asked   atomic.Bool          // both are final
	found   crosscompile.Package // by ready
	refused error                // of ready

	mu    sync.Mutex
	lists map[string]*sourceList // by build tags
}

// A sourceList is the list of sources of a package with certain build tags, and what is
// proved of it.
type sourceList struct {
	*unchanged.Sources // nil: there is no list, and no key
	again              func() (*unchanged.Sources, error)

	reason string                    // why there is no list
	stable func() *unchanged.Sources // the list before the first compiler starts; nil: it proves nothing

	mu     sync.Mutex
	proved map[string]bool // the go command read no other files, by programKey
}

// lateError is the error of what goMaker.ready has put off. It is not one of a platform.
type lateError struct{ error }

func (e *lateError) Unwrap() error { return e.error }

// guess sets main to the package of g and puts off asking the go command for it, if each
// program has a key under which Recall may find it.
func (g *goMaker) guess(main *crosscompile.Package) bool {
	if g.spec.All || !g.Recalls {
		return false
	}
	for _, p := range g.spec.Platforms {
		how, err := g.spec.settings(p)
		if err != nil {
			return false
		}
		list := g.list(how)
		if list.Sources == nil {
			return false
		}
		*main = list.Main
	}
	g.sources.late = true
	g.foresee(main)
	return true
}

// foresee sets main to the package of g and puts off asking the go command for it until the
// compiler runs, if the same go command has compiled all programs of g before, from an earlier
// state of the sources, and the files of the modules name the same package. What is compiled
// counts only if the go command then finds this package, with the same settings; see
// goTask.ahead.
func (g *goMaker) foresee(main *crosscompile.Package) bool {
	of := g.spec.goPackage()
	if g.spec.All || of.Debug || of.AsMain || strings.Contains(of.Package, "@") {
		return false
	}
	var programs []string
	for _, p := range g.spec.Platforms {
		how, err := g.spec.settings(p)
		if err != nil || how.Cgo {
			return false
		}
		programs = append(programs, programKey(p, how))
	}
	start := time.Now()
	found, err := g.records.Main(g.spec.Dir, of.Package)
	// Untrusted sources are checked before the go command reads them.
	if err != nil || !g.record.Expects(found, programs) || sources.Check(g.goc, g.Within, g.spec.Dir, of.Package) != nil {
		return false
	}
	g.sources.settings = g.record.Settings()
	g.record.Begin(found, start)
	*main, g.sources.late, g.sources.beside = found, true, true
	return true
}

// foreseen reports whether the go command is to be asked while the compiler runs.
func (g *goMaker) foreseen() bool { return g.sources.beside && !g.sources.asked.Load() }

// ready looks for the package and checks the platforms, if guess has put that off. Only the
// first call works, unless its context ends; all get its error.
func (g *goMaker) ready(ctx context.Context) error {
	_, err := g.finding(ctx)
	return err
}

// finding returns a maker of the package that ready has found. It is g if nothing was put off.
func (g *goMaker) finding(ctx context.Context) (*goMaker, error) {
	s := g.sources
	if !s.late {
		return g, nil
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if !s.asked.Load() {
		s.found, s.refused = g.ask(ctx)
		s.asked.Store(ctx.Err() == nil)
	}
	other := *g
	other.spec = g.spec.withMain(s.found)
	return &other, s.refused
}

// ask looks for the package and checks the platforms. An error is a [*lateError].
func (g *goMaker) ask(ctx context.Context) (crosscompile.Package, error) {
	start := time.Now()
	found, err := g.search(ctx)
	if err != nil {
		return found, &lateError{err}
	}
	if !g.sources.beside || found != g.spec.goPackage().Main {
		g.record.Begin(found, start)
	}
	if err := errors.Join(g.goc.Check(ctx, found.Dir, g.spec.Platforms, nil), g.spec.debuggable(g.spec.Platforms)); err != nil {
		return found, &lateError{err}
	}
	return found, nil
}

// inputs describes what the key of the program for p is made of, and why it has none.
func (g *goMaker) inputs(p ocispec.Platform) (map[string]string, string) {
	how, err := g.spec.settings(p)
	if err != nil {
		return nil, err.Error()
	}
	list := g.list(how)
	target, err := crosscompile.Env(p)
	if list.Sources == nil || err != nil {
		return nil, cmp.Or(list.reason, "the platform has no settings")
	}
	in := map[string]string{
		"go": list.Release.Version, "GOFLAGS": strings.Join(list.Release.Flags, " "), "package": list.Main.PkgPath,
		"platform": strings.Join(target, " "), "flags": strings.Join(how.flags(), " "), "env": strings.Join(how.Env, " "), "compressor": layerfile.Compressor(),
	}
	for _, f := range list.Files {
		in["file "+f.Name] += f.Sum
	}
	return in, ""
}

// list returns the sources for compile settings.
func (g *goMaker) list(how Compile) *sourceList {
	g.sources.mu.Lock()
	defer g.sources.mu.Unlock()
	tags := strings.Join(how.Tags, ",")
	reason := how.unportable()
	switch of := g.spec.goPackage(); {
	case of.Debug:
		reason = "an image with a debugger has two programs"
	case of.AsMain:
		reason = "--as-main applies replace lines of a module"
	}
	if !g.Recalls || reason != "" {
		return &sourceList{reason: reason, stable: func() *unchanged.Sources { return nil }}
	}
	if l := g.sources.lists[tags]; l != nil {
		return l
	}
	dir, pkg := g.spec.Dir, g.spec.goPackage().Package
	l := &sourceList{proved: map[string]bool{}, again: func() (*unchanged.Sources, error) { return g.records.Sources(dir, pkg, how.Tags) }}
	var err error
	if l.Sources, err = l.again(); err != nil {
		l.Sources, l.reason = nil, err.Error()
		g.log.Debug("no key", "package", pkg, "reason", l.reason)
	}
	l.stable = sync.OnceValue(func() *unchanged.Sources {
		if l.Sources == nil {
			return nil
		}
		now, _ := l.Settled(l.again)
		return now
	})
	if g.sources.lists == nil {
		g.sources.lists = map[string]*sourceList{}
	}
	g.sources.lists[tags] = l
	return l
}

// source is the key of the sources with the settings of the compiler.
func (g *goMaker) source(p ocispec.Platform) string {
	how, err := g.spec.settings(p)
	if err != nil {
		return ""
	}
	list := g.list(how)
	target, err := crosscompile.Env(p)
	if list.Sources == nil || err != nil {
		return ""
	}
	return list.Key(target, how.flags(), how.Env, layerfile.Compressor())
}

// compiled records that a program was compiled, after the list was stable: by the release of
// the key, and from no other files.
func (l *sourceList) compiled(key string, is crosscompile.Binary) {
	if is.Info != nil && releaseOf(is.Info) != l.Release.Version {
		return
	}
	if before := l.stable(); before != nil && before.Has(is.Sources) == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.proved[key] = true
	}
}

// proved lists the sources again: they must not have changed since before the compiler
// started. The go command must have read no file that is not among them.
func (g *goMaker) proved(p ocispec.Platform) bool {
	how, err := g.spec.settings(p)
	if err != nil {
		return false
	}
	list := g.list(how)
	list.mu.Lock()
	ok := list.proved[programKey(p, how)]
	list.mu.Unlock()
	if !ok {
		return false
	}
	if _, asked := g.steady[list]; !asked {
		g.steady[list] = list.unchangedSince(list.stable())
	}
	if g.steady[list] {
		g.record.Prove(programKey(p, how), g.source(p))
	}
	return g.steady[list]
}

// unchangedSince lists the sources again, and reports whether they are those of a list before.
func (l *sourceList) unchangedSince(before *unchanged.Sources) bool {
	later, err := l.again()
	return err == nil && before.Same(later)
}

// prove asks the go command for the files of the program. The build record says that the program
// was compiled from the files as they are, so they are the same as then if neither its listing
// nor the list of sources changes while the go command is asked.
func (g *goMaker) prove(ctx context.Context, p ocispec.Platform) string {
	how, err := g.spec.settings(p)
	if err != nil {
		return ""
	}
	list := g.list(how)
	before := list.stable()
	if before == nil {
		return ""
	}
	permit := g.permits.Reserve(g.times.Expected(programKey(p, how)))[0]
	defer permit.Release()
	if err := permit.Wait(ctx); err != nil {
		return ""
	}
	files, err := g.goc.Sources(ctx, g.request(ctx, p, how, "", 1))
	if err != nil {
		g.log.DebugContext(ctx, "no key of what is remembered: "+err.Error(), "package", g.spec.goPackage().Package)
		return ""
	}
	source := g.source(p)
	if err := before.Has(files); err != nil {
		g.log.DebugContext(ctx, "no key of what is remembered: "+err.Error(), "package", g.spec.goPackage().Package)
		source = unchanged.Unforeseen
	}
	if !list.unchangedSince(before) || !g.record.Holds() {
		return ""
	}
	g.record.Prove(programKey(p, how), source)
	g.record.Store()
	if source == unchanged.Unforeseen {
		return ""
	}
	return source
}

// unportable returns why the program depends on something else than the sources, the release
// of Go and the settings themselves, or "".
func (c Compile) unportable() string {
	switch {
	case c.Cgo || c.Race:
		return "cgo depends on the C compiler of the machine"
	case c.profiled():
		return "the file of a profile is not among the sources"
	case slices.ContainsFunc(c.Env, func(kv string) bool { return strings.HasPrefix(kv, "GO_EXTLINK_ENABLED=") }):
		return "GO_EXTLINK_ENABLED starts a linker of the machine"
	}
	value := false // of -X
	for _, word := range strings.Fields(strings.Join(slices.Concat(c.Ldflags, c.Gcflags), " ")) {
		if i := strings.Index(word, "=-"); i >= 0 && !strings.HasPrefix(word, "-") { // all=-N
			word = word[i+1:]
		}
		name, _, given := strings.Cut(strings.TrimLeft(strings.Trim(word, `"'`), "-"), "=")
		switch {
		case value:
			value = false
		case name == "X":
			value = !given
		case strings.ContainsAny(word, `/\`) || slices.Contains(outward, name):
			return "the flag " + word + " may name a file or a program"
		}
	}
	return ""
}

// outward are flags of the compiler and the linker that name files or programs.
var outward = []string{
	"asmhdr", "embedcfg", "extar", "extld", "extldflags", "importcfg", "linkmode", "linkobj", "o", "pgoprofile", "symabis", "toolexec", "I", "L", "k", "installsuffix",
}

// checkProgram reads the build information of a program. It must be what the go command would write:
// its own release, the package, the platform, the build tags, and the modules with their sums
// in go.sum. This finds a mistake, and not a forged program.
func (g *goMaker) checkProgram(p ocispec.Platform, file string) (*buildinfo.BuildInfo, error) {
	how, err := g.spec.settings(p)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := crosscompile.Verify(f, p)
	if err != nil || p.Architecture == "wasm" {
		return nil, err
	}
	if info == nil {
		return nil, errors.New("it has no build information of Go")
	}
	list := g.list(how)
	target, err := crosscompile.Env(p)
	if err != nil || list.Sources == nil {
		return nil, err
	}
	if release := releaseOf(info); release != list.Release.Version {
		return nil, fmt.Errorf("it was compiled with %s, and this is %s", release, list.Release.Version)
	}
	fixed := list.Main.Version != "" // its module is one of its dependencies, and there is no go.sum
	if info.Path != list.Main.PkgPath || !fixed && info.Main.Path != list.Main.Module {
		return nil, fmt.Errorf("it is the program %s of %s", info.Path, info.Main.Path)
	}
	want := map[string]string{"-tags": ""}
	for _, kv := range target {
		name, value, _ := strings.Cut(kv, "=")
		want[name] = value
	}
	for _, flag := range append(slices.Clone(list.Release.Flags), how.flags()...) {
		if tags, ok := strings.CutPrefix(flag, "-tags="); ok {
			want["-tags"] = tags
		}
	}
	for _, s := range info.Settings {
		if value, ok := want[s.Key]; ok && value != s.Value {
			return nil, fmt.Errorf("it was compiled with %s=%s", s.Key, s.Value)
		}
	}
	for _, dep := range info.Deps {
		if fixed && dep.Sum != "" {
			continue
		}
		if err := list.holds(dep); err != nil {
			return nil, err
		}
	}
	return info, nil
}

// releaseOf returns the release of Go that compiled a program, without its experiments.
func releaseOf(info *buildinfo.BuildInfo) string {
	release, _, _ := strings.Cut(info.GoVersion, " ")
	return release
}

// holds checks the sum of a module. One in a directory has none.
func (l *sourceList) holds(m *debug.Module) error {
	if m.Replace != nil {
		m = m.Replace
	}
	if m.Sum == "" && l.Local || m.Sum != "" && l.Sums[m.Path+" "+m.Version] == m.Sum {
		return nil
	}
	return fmt.Errorf("its module %s %s has another checksum than go.sum", m.Path, m.Version)
}
