package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/placement"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// delve is the debugger that [GoPackage.Debug] adds. The version is fixed, so that the image
// does not depend on the day of the build.
const delve = "github.com/go-delve/delve/cmd/dlv@v1.27.2"

// debugPort is the port on which the debugger listens.
const debugPort = "40000/tcp"

// delves has the platforms that Delve supports without cgo, and the build tags that each
// needs to compile (Delve, pkg/proc/native/support_sentinel*.go).
var delves = map[string][]string{
	"linux/386": nil, "linux/amd64": nil, "linux/arm64": nil, "linux/ppc64le": nil, "windows/amd64": nil,
	"linux/loong64": {"exp.linuxloong64"}, "linux/riscv64": {"exp.linuxriscv64"}, "windows/arm64": {"exp.winarm64"},
}

// A DebuggerError names the platforms that the debugger does not support.
type DebuggerError struct {
	Platforms []ocispec.Platform
	Supported []string // os/architecture that there is one for, sorted
}

func (e *DebuggerError) Error() string {
	keys := make([]string, len(e.Platforms))
	for i, p := range e.Platforms {
		keys[i] = platform.Key(p)
	}
	return "Delve does not support " + strings.Join(keys, ", ")
}

// Is reports whether target is the kind of the error.
func (*DebuggerError) Is(target error) bool { return target == hint.Usage }

// pair returns os/architecture, the key of delves.
func pair(p ocispec.Platform) string { return p.OS + "/" + p.Architecture }

// debuggable returns an error if s asks for a debugger and cannot have one: Delve does
// not support a platform, or the entrypoint is not the program. The debugger starts the
// program, so another entrypoint would never run.
func (s Spec) debuggable(list []ocispec.Platform) error {
	if !s.goPackage().Debug {
		return nil
	}
	var without []ocispec.Platform
	var errs []error
	for _, p := range list {
		if _, ok := delves[pair(p)]; !ok {
			without = append(without, p)
		}
		if e := s.Config.Entrypoint; len(e) > 0 && e[0] != programPath(s, p) {
			errs = append(errs, &SpecError{Field: "image: entrypoint", Reason: fmt.Sprintf("%s is not the program, but the debugger starts the program", e[0]), Want: programPath(s, p)})
		}
	}
	if len(without) > 0 {
		errs = append(errs, &DebuggerError{without, slices.Sorted(maps.Keys(delves))})
	}
	return errors.Join(errs...)
}

// findDebugger fetches the module of the debugger and returns its package. It is found in
// the same way as any other module/path@version.
func (g *goMaker) findDebugger(ctx context.Context) (crosscompile.Package, error) {
	of := g.spec.goPackage()
	of.Package, of.AsMain = delve, false
	other := *g
	other.spec.Program = of
	found, err := other.search(ctx)
	if err != nil {
		err = fmt.Errorf("the debugger: %w", err)
	}
	return found, err
}

// extras compiles the debugger, if the Spec asks for one. It takes no permit, since the
// caller may hold one already.
func (g *goMaker) extras(ctx context.Context, p ocispec.Platform, step *string) (list []placement.Part, unlock func(), err error) {
	if !g.spec.goPackage().Debug {
		return nil, func() {}, nil
	}
	*step = "debugger"
	other := *g
	other.spec = g.spec.withMain(g.debugger)
	other.spec.Name, other.spec.Path = "dlv", ""
	bin, unlock, err := other.compile(ctx, p, Compile{Tags: delves[pair(p)]})
	if err != nil {
		return nil, nil, err
	}
	e, err := programEntry(other.spec, p, bin.Path)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	g.writeSum(bin.Path, e.Content)
	return []placement.Part{{Comment: "debugger", Entries: []layerfile.Entry{e}}}, unlock, nil
}

// config sets the entrypoint that starts the program under the debugger, and exposes the
// debugger's port.
func (g *goMaker) config(p ocispec.Platform, c Config) Config {
	if !g.spec.goPackage().Debug {
		return c
	}
	s, entrypoint := g.spec, c.Entrypoint
	if len(entrypoint) == 0 {
		entrypoint = []string{programPath(s, p)}
	}
	s.Name, s.Path = "dlv", ""
	c.Entrypoint = append([]string{
		programPath(s, p), "exec", "--listen=:40000", "--headless", "--log", "--accept-multiclient", "--api-version=2", "--",
	}, entrypoint...)
	c.Ports = append(slices.Clone(c.Ports), debugPort)
	return c
}
