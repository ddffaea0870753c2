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

// Mains returns the packages that s.Package, a pattern such as ./cmd/..., stands
// for: [crosscompile.Go.Mains].
func (b *Builder) Mains(ctx context.Context, s Spec) ([]string, error) {
	b.init(ctx)
	if err := b.sources(s.Dir, s.Package); err != nil {
		return nil, err
	}
	return b.goc.Mains(ctx, crosscompile.Query{Pattern: s.Package, Dir: s.Dir, Aims: s.aims()})
}

// find asks the go command for the package.
func (b *Builder) find(ctx context.Context, s Spec) (crosscompile.Package, error) {
	if err := b.sources(s.Dir, s.Package); err != nil {
		return crosscompile.Package{}, err
	}
	scratch, err := b.cache.Dir("modules")
	if err != nil || b.cache.Sealed() { // a module that somebody else may have filled
		scratch = filepath.Join(b.Work, "modules")
	}
	q := crosscompile.Query{Pattern: s.Package, Dir: s.Dir, Scratch: scratch, AsMain: s.AsMain, Aims: s.aims()}
	found, err := b.goc.Find(ctx, q)
	if unusable(err) && ctx.Err() == nil { // a cache that is full, or has no locks, costs time alone
		b.log.DebugContext(ctx, "fetching the module without the cache: "+err.Error())
		q.Scratch = filepath.Join(b.Work, "modules")
		found, err = b.goc.Find(ctx, q)
	}
	if errors.As(err, new(*crosscompile.ModuleError)) { // a failure of the build, which names its platforms
		err = fmt.Errorf("%s: %w", s.wanted(), err)
	}
	return found, err
}

// unusable reports whether err is the system's word on a file, and not the go command's
// on a package.
func unusable(err error) bool {
	return errors.As(err, new(syscall.Errno)) && !errors.As(err, new(*crosscompile.CommandError)) && !errors.Is(err, crosscompile.ErrNoGo)
}

// aims lists what s is built for, each os and architecture once. A platform that
// Go cannot aim at is left to [crosscompile.Go.Check].
func (s Spec) aims() []crosscompile.Aim {
	var aims []crosscompile.Aim
	list := s.Platforms
	if s.All { // which ones is not known yet, and the host need not be among them
		list = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "windows", Architecture: "amd64"}}
	}
	for _, p := range list {
		if _, err := crosscompile.Env(p); err != nil || slices.ContainsFunc(aims, func(a crosscompile.Aim) bool {
			return a.Platform.OS == p.OS && a.Platform.Architecture == p.Architecture
		}) {
			continue
		}
		how := s.compile(p)
		aims = append(aims, crosscompile.Aim{Platform: p, Tags: how.Tags, Cgo: how.Cgo})
	}
	return aims
}

// wanted names the platforms that are to be built.
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
