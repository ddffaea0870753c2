package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/progress"
	"github.com/mabuild/mabuild/internal/smoke"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A run is one call of [Publisher.Publish]. Hooks of different platforms run concurrently;
// mu guards what they collect, by the platform's canonical spelling.
type run struct {
	*Publisher
	plan  Plan
	repos []*repository
	start time.Time

	mu    sync.Mutex
	bases map[string]v1.Image // base images, for the SBOMs
	sboms map[string]v1.Image
	tests map[string]smoke.Result
}

// A repository is one repository that a program is pushed to, with its tags. The fields
// below ready are written by one goroutine before it closes ready, and read by others
// after that.
type repository struct {
	name string   // as the user wrote it
	tags []string // name:tag

	moved int // number of tags that were moved

	ready   chan struct{} // closed when the fields below are set
	current v1.Descriptor // what the first tag names now; zero: nothing
	release func()
	err     error
	ended   bool // err only says that the run had been cancelled
}

// newRun returns the run of a plan, whose repositories are not prepared yet.
func (pub *Publisher) newRun(p Plan) *run {
	r := &run{Publisher: pub, plan: p, start: time.Now(), bases: map[string]v1.Image{}, sboms: map[string]v1.Image{}, tests: map[string]smoke.Result{}}
	for _, tags := range ByRepository(p.Tags) {
		name := imageref.Cut(tags[0]).Repository
		r.repos = append(r.repos, &repository{name: name, tags: tags, ready: make(chan struct{}), release: func() {}})
	}
	return r
}

// prepare starts a goroutine for each repository, which prepares the push, and cancels ctx
// if its registry refuses. The caller calls end, which waits for all of them and releases
// the upload sessions that were not used.
func (r *run) prepare(ctx context.Context, cancel context.CancelCauseFunc) (end func()) {
	for _, repo := range r.repos {
		go func() {
			defer close(repo.ready)
			repo.err = guard.Do(func() (err error) {
				repo.current, repo.release, err = r.Client.Prepare(ctx, repo.tags[0])
				return err
			})
			if repo.err != nil {
				// ended is decided before this error cancels ctx itself.
				repo.release, repo.ended = func() {}, ctx.Err() != nil
				cancel(repo.err)
			}
		}()
	}
	return func() {
		for _, repo := range r.repos {
			<-repo.ready
			repo.release()
		}
	}
}

// refusals waits for all repositories and joins the errors of their registries. A request
// that failed because the run had been cancelled is not a refusal.
func (r *run) refusals() error {
	var errs []error
	for _, repo := range r.repos {
		if <-repo.ready; repo.err != nil && !repo.ended {
			errs = append(errs, repo.err)
		}
	}
	return errors.Join(errs...)
}

// each calls do for all repositories at once, waits for all, and joins their errors in
// their order. A panic becomes an error of its repository.
func (r *run) each(do func(*repository) error) error {
	errs := make([]error, len(r.repos))
	var wg sync.WaitGroup
	for i, repo := range r.repos {
		wg.Go(func() { errs[i] = guard.Do(func() error { return do(repo) }) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// onBase sends the layers of a base image while other platforms are still compiled, if the
// first tag does not exist or the base is known to have changed.
func (r *run) onBase(ctx context.Context, p ocispec.Platform, base v1.Image) error {
	key := platform.Key(p)
	ctx = progress.WithTask(ctx, progress.Task{Program: r.plan.Spec.Name, Platform: key})
	r.mu.Lock()
	r.bases[key] = base
	r.mu.Unlock()
	digest, err := base.Digest()
	if err != nil {
		return err
	}
	r.Log.DebugContext(ctx, "using base image", "base", digest.String())
	layers, err := base.Layers()
	if err != nil {
		return err
	}
	return r.each(func(repo *repository) error {
		<-repo.ready
		// If the tag exists and the base is not known to have changed, its layers are
		// probably there.
		if repo.err != nil || repo.current.Digest != (v1.Hash{}) && !r.rebased(repo.name, key, digest) {
			return repo.err
		}
		// The push of an image later waits for these uploads and does not repeat them.
		return r.Client.Carry(ctx, repo.tags[0], layers...)
	})
}

// onImage stores an image by digest, then its SBOM, and records its base. No tag moves
// here: finish does that if all platforms succeed.
func (r *run) onImage(ctx context.Context, i build.Image) error {
	key := platform.Key(i.Platform)
	ctx = progress.WithTask(ctx, progress.Task{Program: r.plan.Spec.Name, Platform: key})
	log := r.Log.With("program", r.plan.Spec.Name, "platform", key)
	digest, err := i.Digest()
	if err != nil {
		return err
	}
	if len(r.repos) > 0 {
		log.InfoContext(ctx, "pushing")
	}
	var sbom v1.Image
	if r.SBOM != "" {
		r.mu.Lock()
		base := r.bases[key] // nil for a built-in base
		r.mu.Unlock()
		// One document serves all repositories.
		if sbom, err = r.sbom(ctx, r.plan.Spec, i, base); err != nil {
			return fmt.Errorf("sbom: %w", err)
		}
		r.mu.Lock()
		r.sboms[key] = sbom
		r.mu.Unlock()
	}
	err = r.each(func(repo *repository) error {
		if <-repo.ready; repo.err != nil {
			return repo.err
		}
		err := r.put(ctx, repo.name+"@"+digest.String(), i.Image)
		if err == nil && sbom != nil {
			err = r.putSBOM(ctx, repo.name, digest, sbom)
		}
		if err == nil {
			r.recordBase(repo.name, key, i.Base)
		}
		return err
	})
	if err == nil && r.Smoke != nil {
		err = r.startProgram(ctx, key, i)
	}
	if err == nil {
		log.InfoContext(ctx, "done", "digest", digest.String(), "duration", time.Since(i.Began))
	}
	return err
}

// startProgram tests whether the program of an image runs.
func (r *run) startProgram(ctx context.Context, key string, i build.Image) error {
	result, err := r.Smoke.Run(ctx, i.Image, i.Platform, r.plan.Smoke)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tests[key] = result
	return err
}

// smoked returns the results of the tests in the order of images. It is empty if no program was
// started.
func (r *run) smoked(images []build.Image) []smoke.Result { return inOrder(r, images, r.tests) }

// inOrder returns what the hooks of a run have collected, in the order of images. It is empty if
// that is nothing.
func inOrder[T any](r *run, images []build.Image, collected map[string]T) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []T
	for _, i := range images {
		if one, ok := collected[platform.Key(i.Platform)]; ok {
			list = append(list, one)
		}
	}
	return list
}

// rebased reports whether the image of a repository for a platform is recorded with
// another base. Without a record it is false.
//
// The record decides whether base layers are sent while the program compiles. If the tag
// exists and the base has not changed, its layers are very likely there, and asking for
// them would cost requests in a run that changes nothing. If the base has changed, sending
// them early saves time. A wrong or lost record costs only requests or time, never
// correctness: the image's own push checks all layers.
func (pub *Publisher) rebased(repo, platform string, base v1.Hash) bool {
	var was v1.Hash
	return pub.Cache.Load(baseKind, repo+" "+platform, &was) && was != v1.Hash{} && was != base
}

// recordBase records the base of an image that was just pushed.
func (pub *Publisher) recordBase(repo, platform string, base v1.Hash) {
	var was v1.Hash
	if base == (v1.Hash{}) || pub.Cache.Load(baseKind, repo+" "+platform, &was) && was == base {
		return
	}
	_ = pub.Cache.Store(baseKind, repo+" "+platform, base) // lost: layers are sent later
}

// baseKind is the kind of the records of bases in the cache.
const baseKind = "baseline"
