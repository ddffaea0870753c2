package crosscompile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A TargetError says that this Go does not support a platform.
type TargetError struct {
	Platform ocispec.Platform
	Version  string   // of Go, such as go1.26.8
	Near     []string // the architectures that it supports for the operating system
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("%s does not support %s/%s", e.Version, e.Platform.OS, e.Platform.Architecture)
}

// Is reports whether target is the kind of the error.
func (*TargetError) Is(target error) bool { return target == hint.Usage }

// Hint lists the architectures for the operating system.
func (e *TargetError) Hint() string {
	if len(e.Near) == 0 {
		return "list the supported platforms with mabuild platforms"
	}
	return fmt.Sprintf("for %s it supports %s", e.Platform.OS, strings.Join(e.Near, ", "))
}

// Targets returns the platforms that the Go of dir supports, with default variants,
// sorted (`go tool dist list`). Some of them, such as darwin, never run in containers.
func (g *Go) Targets(ctx context.Context, dir string) ([]ocispec.Platform, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	pairs, err := g.pairs(ctx, tc)
	if err != nil {
		return nil, err
	}
	var list []ocispec.Platform
	for _, pair := range pairs {
		goos, goarch, _ := strings.Cut(pair, "/")
		list = append(list, platform.Normalize(ocispec.Platform{OS: goos, Architecture: goarch}))
	}
	slices.SortFunc(list, platform.Compare)
	return list, nil
}

// Check returns an error if the Go of dir cannot build for all of the platforms. It joins
// a [*TargetError] or [*VariantError] for each one that is not supported.
func (g *Go) Check(ctx context.Context, dir string, list []ocispec.Platform) error {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return err
	}
	pairs, err := g.pairs(ctx, tc)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range list {
		p = platform.Normalize(p)
		if !slices.Contains(pairs, p.OS+"/"+p.Architecture) {
			errs = append(errs, &TargetError{Platform: p, Version: tc.version, Near: near(p.OS, pairs)})
			continue
		}
		if _, err := Env(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// near returns the architectures in pairs that an operating system has.
func near(goos string, pairs []string) []string {
	var list []string
	for _, pair := range pairs {
		if arch, ok := strings.CutPrefix(pair, goos+"/"); ok {
			list = append(list, arch)
		}
	}
	return list
}

// pairs returns the os/architecture pairs that a go command supports. It runs the command
// once and remembers the result.
func (g *Go) pairs(ctx context.Context, tc *toolchain) ([]string, error) {
	return g.dist.Ensure(ctx, tc.bin, func() ([]string, error) {
		out, err := tc.run(ctx, "", "tool", "dist", "list")
		return strings.Fields(string(out)), err
	})
}
