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

// A TargetError says that Go does not support a platform, or only not its variant.
type TargetError struct {
	Platform ocispec.Platform
	Variant  bool     // Go supports the architecture, but not this variant
	Version  string   // of Go, such as go1.26.8; "" if Variant is set
	Known    []string // the variants of the architecture, or the architectures for the operating system
}

func (e *TargetError) Error() string {
	if e.Variant {
		return fmt.Sprintf("Go has no variant %q of %s/%s", e.Platform.Variant, e.Platform.OS, e.Platform.Architecture)
	}
	return fmt.Sprintf("%s does not support %s/%s", e.Version, e.Platform.OS, e.Platform.Architecture)
}

// Is reports whether target is the kind of the error.
func (*TargetError) Is(target error) bool { return target == hint.Usage }

// Hint lists what is known.
func (e *TargetError) Hint() string {
	known := strings.Join(e.Known, ", ")
	switch {
	case e.Variant && known == "":
		return fmt.Sprintf("write %s/%s", e.Platform.OS, e.Platform.Architecture)
	case e.Variant:
		return "the variants are " + known
	case known == "":
		return "list the supported platforms with mabuild platforms"
	}
	return fmt.Sprintf("for %s it supports %s", e.Platform.OS, known)
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
// a [*TargetError] for each one that is not supported. With c it also checks that every
// platform has a C compiler, that it is installed, and that what it links runs there. All
// that is wrong with C compilers is in one error, with the commands that install what is
// missing.
func (g *Go) Check(ctx context.Context, dir string, list []ocispec.Platform, c *Cgo) error {
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
			errs = append(errs, &TargetError{Platform: p, Version: tc.version, Known: near(p.OS, pairs)})
			continue
		}
		if _, err := Env(p); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 || c == nil {
		return errors.Join(errs...)
	}
	return g.checkCompilers(ctx, tc, list, *c)
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
