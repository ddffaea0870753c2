package build

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/manifest/platform"
)

// Mains returns the main packages that match the package of s, a pattern such as ./cmd/...; see
// [crosscompile.Go.Mains].
func (b *Builder) Mains(ctx context.Context, s Spec) ([]string, error) {
	b.init(ctx)
	if err := b.sources(s.Dir, s.goPackage().Package); err != nil {
		return nil, err
	}
	return b.goc.Mains(ctx, crosscompile.Query{Pattern: s.goPackage().Package, Dir: s.Dir, Aims: s.aims()})
}

// find finds the package of s with the go command. Untrusted sources are checked first,
// since the go command quotes what it reads.
func (b *Builder) find(ctx context.Context, s Spec) (crosscompile.Package, error) {
	if err := b.sources(s.Dir, s.goPackage().Package); err != nil {
		return crosscompile.Package{}, err
	}
	// A module that was fetched before is in the cache. If others can write to the cache,
	// they may have changed the module, so a sealed cache is not used for modules.
	scratch, err := b.cache.Dir("modules")
	if err != nil || b.cache.Sealed() {
		scratch = filepath.Join(b.Work, "modules")
	}
	q := crosscompile.Query{Pattern: s.goPackage().Package, Dir: s.Dir, Scratch: scratch, AsMain: s.goPackage().AsMain, Aims: s.aims()}
	found, err := b.goc.Find(ctx, q)
	// The cache may be on a disk that is full or has no locks. It is optional, so the
	// work directory is tried next.
	if unusable(err) && ctx.Err() == nil {
		b.log.DebugContext(ctx, "fetching the module without the cache: "+err.Error())
		q.Scratch = filepath.Join(b.Work, "modules")
		found, err = b.goc.Find(ctx, q)
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
