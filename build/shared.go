package build

import (
	"context"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build/internal/layerfile"
	"github.com/mabuild/mabuild/build/internal/unchanged"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/elf"
)

// A shared is a program that is compiled once for all images that contain it. Only images
// for several versions of Windows share a program; all others are the only user of
// theirs.
//
// The image that sets claimed compiles the program and writes the fields; the others read
// them after done is closed. The lock of the program's path is held until the last user
// has written its layer.
type shared struct {
	claimed atomic.Bool   // set by the image that compiles it
	done    chan struct{} // closed when the fields below are final
	binary  crosscompile.Binary
	entry   layerfile.Entry
	// linkage is what the program needs from its base.
	linkage elf.Linkage
	err     error

	unlock func()       // of the path; nil: not compiled
	users  atomic.Int32 // images that may still need the file
}

// share finds the images that contain the same program.
func (r *buildRun) share(list []PlannedBase) {
	r.programs = map[string]*shared{}
	for _, base := range list {
		how, err := r.spec.settings(base.Platform)
		if err != nil {
			continue // its platform reports the error
		}
		key := programKey(base.Platform, how)
		if r.programs[key] == nil {
			r.programs[key] = &shared{done: make(chan struct{})}
		}
		r.programs[key].users.Add(1)
	}
}

// release is called once by each user, when its layer is written or it has failed. The
// last call unlocks the path.
func (s *shared) release() {
	if s.users.Add(-1) == 0 && s.unlock != nil {
		s.unlock()
	}
}

// compileShared compiles the program of s for p and hashes it. It records the time, the
// checksum of the file and, for a program that needs nothing from its base, the build
// record. A program with a loader is compared with its base in every build, so it is not
// recorded.
func (r *buildRun) compileShared(ctx context.Context, p ocispec.Platform, how Compile, s *shared) (err error) {
	start := time.Now()
	if s.binary, s.unlock, err = r.compile(ctx, p, how); err != nil {
		return err
	}
	r.times.add(p, how, time.Since(start))
	if s.entry, err = programEntry(r.spec, p, s.binary.Path); err != nil {
		return err
	}
	r.writeSum(s.binary.Path, s.entry.Content)
	if s.linkage, err = elf.ReadLinkage(s.binary.Path); err != nil {
		return err
	}
	// Programs with cgo or with a named profile depend on files that are not sources.
	if s.linkage.Interpreter == "" && !how.Cgo && !how.profiled() {
		r.found.record.Add(programKey(p, how), unchanged.Program{Content: s.entry.Content, Size: s.entry.Size})
	}
	return nil
}
