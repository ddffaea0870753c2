package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// delve is the debugger that Spec.Debug adds, at the version that this release was
// tried with.
const delve = "github.com/go-delve/delve/cmd/dlv@v1.27.2"

// debugPort is where the debugger listens.
const debugPort = "40000/tcp"

// delves has the build tags by which Delve compiles for each os and architecture
// without cgo (its pkg/proc/native/support_sentinel*.go).
var delves = map[string][]string{
	"linux/386": nil, "linux/amd64": nil, "linux/arm64": nil, "linux/ppc64le": nil, "windows/amd64": nil,
	"linux/loong64": {"exp.linuxloong64"}, "linux/riscv64": {"exp.linuxriscv64"}, "windows/arm64": {"exp.winarm64"},
}

// A DebuggerError names platforms that there is no debugger for.
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

// pair is os/architecture, which is what decides whether there is a debugger.
func pair(p ocispec.Platform) string { return p.OS + "/" + p.Architecture }

// debuggable says why s cannot be debugged: a platform without a debugger, or
// another entrypoint than the program, which is what the debugger starts.
func (s Spec) debuggable() error {
	if !s.Debug {
		return nil
	}
	var without []ocispec.Platform
	var errs []error
	for _, p := range s.Platforms {
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

// findDebugger fetches the debugger's sources.
func (b *Builder) findDebugger(ctx context.Context, s Spec) (crosscompile.Package, error) {
	s.Package, s.AsMain = delve, false
	found, err := b.find(ctx, s)
	if err != nil {
		err = fmt.Errorf("the debugger: %w", err)
	}
	return found, err
}

// debugger compiles the debugger for p and returns its entry in the image, which
// is good until unlock.
func (r *buildRun) debugger(ctx context.Context, p ocispec.Platform) (e entry, unlock func(), err error) {
	other := *r
	other.spec.Main, other.spec.Name, other.spec.Path = r.spec.debugger, "dlv", ""
	bin, unlock, err := other.compile(ctx, p, Compile{Tags: delves[pair(p)]})
	if err != nil {
		return e, nil, err
	}
	e, err = programEntry(other.spec, p, bin.Path)
	if err != nil {
		unlock()
		return e, nil, err
	}
	r.writeSum(bin.Path, e.content)
	return e, unlock, nil
}

// debugged is the entrypoint that starts a program under the debugger.
func debugged(s Spec, p ocispec.Platform, program []string) []string {
	s.Name, s.Path = "dlv", ""
	return append([]string{
		programPath(s, p), "exec", "--listen=:40000", "--headless", "--log", "--accept-multiclient", "--api-version=2", "--",
	}, program...)
}
