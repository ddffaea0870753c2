package build

import (
	"context"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// A shared is a program that is compiled once for all images that hold it: one,
// or one for each version of Windows.
type shared struct {
	claimed atomic.Bool   // one image compiles it, with its permit
	done    chan struct{} // closed when it has
	binary  crosscompile.Binary
	entry   entry
	// linkage is what it wants of the base.
	linkage crosscompile.Linkage
	err     error

	unlock func()
	users  atomic.Int32 // images that may still need it
}

// share finds out which images hold the same program.
func (r *buildRun) share(list []PlannedBase) {
	r.programs = map[string]*shared{}
	for _, base := range list {
		how, err := r.spec.compile(base.Platform).expand(r.spec.Vars)
		if err != nil {
			continue // which its platform will say
		}
		key := programKey(base.Platform, how)
		if r.programs[key] == nil {
			r.programs[key] = &shared{done: make(chan struct{})}
		}
		r.programs[key].users.Add(1)
	}
}

// release is said by each user once, whose layer is written. After the last the
// program's place is free for others.
func (s *shared) release() {
	if s.users.Add(-1) == 0 && s.unlock != nil {
		s.unlock()
	}
}

// compileShared compiles for p, and knows the program by its bytes.
func (r *buildRun) compileShared(ctx context.Context, p ocispec.Platform, how Compile, s *shared) (err error) {
	start := time.Now()
	if s.binary, s.unlock, err = r.compile(ctx, p, how); err != nil {
		return err
	}
	r.times.add(p, how, time.Since(start))
	if s.entry, err = programEntry(r.spec, p, s.binary.Path); err != nil {
		return err
	}
	r.writeSum(s.binary.Path, s.entry.content)
	if s.linkage, err = crosscompile.ReadLinkage(s.binary.Path); err != nil {
		return err
	}
	if s.linkage.Interpreter == "" { // else it is to be held against the base each time
		r.buildRecord.add(p, how, s.entry)
	}
	return nil
}
