package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/progress"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A program is one program to build, with its destinations.
type program struct {
	spec    build.Spec // resolved
	refs    []string   // repository:tag, in the order given
	outputs []output   // local destinations
	noIndex bool       // publish the image of the only platform without an index
}

// An output is a local destination.
type output struct {
	text     string // as the user wrote it
	place    local.Place
	sink     manifest.Sink
	ref      string           // the image's name there
	platform ocispec.Platform // of the only image that it holds; zero: holds all
	digest   v1.Hash          // of its content once it is complete: the index, or the only image
}

// A published is the result for one program. After an error it has the destinations that
// are complete.
type published struct {
	name    string
	content manifest.Content
	digest  v1.Hash
	images  []build.Image
	sboms   []*sbom // one per image, or none

	repos   []string // those whose tags all moved, in the order given
	tags    []string
	outputs []output
}

// anywhere reports whether any destination is complete. p may be nil.
func (p *published) anywhere() bool { return p != nil && len(p.repos)+len(p.outputs) > 0 }

// A publisher builds programs and publishes them. It is used for all programs of a run at
// once.
type publisher struct {
	builder *build.Builder
	client  *registry.Client
	log     *slog.Logger
	sboms   *sbomWriter // nil if no SBOMs are wanted
	bases   baseline
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

// repositories groups references by repository, in the order given.
func repositories(refs []string) []*repository {
	var list []*repository
	for _, ref := range refs {
		repo := withoutTag(ref)
		at := -1
		for i := range list {
			if list[i].name == repo {
				at = i
			}
		}
		if at < 0 {
			at = len(list)
			list = append(list, &repository{name: repo, ready: make(chan struct{}), release: func() {}})
		}
		list[at].tags = append(list[at].tags, ref)
	}
	return list
}

// withoutTag returns a reference without tag and digest.
func withoutTag(ref string) string { return manifest.CutReference(ref).Repository }

// checkTag rejects what is not a valid repository:tag.
func checkTag(ref string) error {
	if strings.Contains(ref, "@") {
		return usage("write repository:tag", "tag %q has a digest, but the build determines the digest", ref)
	}
	err := checkReference(ref)
	if err == nil {
		_, err = name.NewTag(ref, name.WeakValidation)
	}
	if err != nil {
		return usage(cmp.Or(hintOf(err), "write repository:tag, for example ghcr.io/acme/app:v1"), "tag %s", strings.TrimPrefix(err.Error(), "tag "))
	}
	return nil
}

// publish builds p and publishes it.
//
// While the program is built, one goroutine for each repository prepares the push, which
// tests the credentials. If a registry refuses, its goroutine cancels the build, so that
// the error comes early. In return, a build that fails cancels the preparation.
//
// Both cancellations use ctx, so its cause alone does not say which error is the reason.
// The build's error is reported unless a refusal had cancelled it; then the refusals are.
// Every return waits for all goroutines, and releases the upload sessions that no blob
// has used.
func (pub *publisher) publish(parent context.Context, p program) (*published, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	repos := repositories(p.refs)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, r := range repos {
		wg.Go(func() {
			defer close(r.ready)
			r.err = guard.Do(func() (err error) { r.current, r.release, err = pub.client.Prepare(ctx, r.tags[0]); return err })
			if r.err != nil {
				// ended is decided before this error cancels ctx itself.
				r.release, r.ended = func() {}, ctx.Err() != nil
				cancel(r.err)
			}
		})
	}
	// Deferred calls run in reverse order: unused upload sessions are released, then the
	// goroutines are awaited, then ctx is cancelled.
	defer func() {
		for _, r := range repos {
			<-r.ready
			r.release()
		}
	}()
	d := newPlatformResults()
	result, err := pub.builder.Build(ctx, p.spec, pub.hooks(p, repos, d))
	// Only a refusal can have cancelled ctx until now, unless the caller has cancelled
	// parent.
	refused := context.Cause(ctx) != nil && parent.Err() == nil
	if err != nil {
		cancel(err) // nothing uses what is still asked
	}
	if err != nil && !refused {
		return nil, err
	}
	if err := refusals(repos); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return pub.finish(ctx, p, repos, result, d.inOrder(result.Images))
}

// refusals waits for all repositories and joins the errors of their registries. A request
// that failed because the run had been cancelled is not a refusal.
func refusals(repos []*repository) error {
	var errs []error
	for _, r := range repos {
		if <-r.ready; r.err != nil && !r.ended {
			errs = append(errs, r.err)
		}
	}
	return errors.Join(errs...)
}

// hooks returns the hooks that push content as soon as it exists, while other platforms
// are still compiled. Hooks of different platforms run concurrently, so what they share
// is in d.
//
// OnBase sends the layers of a base image if the first tag does not exist or the base is
// known to have changed. OnImage stores the image by digest, then its SBOM, and records
// the base. No tag is moved here: finish does that if all platforms succeed.
func (pub *publisher) hooks(p program, repos []*repository, d *platformResults) build.Hooks {
	start := time.Now()
	return build.Hooks{
		OnBase: func(ctx context.Context, pf ocispec.Platform, base v1.Image) error {
			ctx = progress.WithTask(ctx, progress.Task{Program: p.spec.Name, Platform: platform.Key(pf)})
			d.keepBase(platform.Key(pf), base)
			if digest, err := base.Digest(); err == nil {
				pub.log.DebugContext(ctx, "using base image", "base", digest.String())
			}
			layers, err := base.Layers()
			if err != nil {
				return err
			}
			digest, err := base.Digest()
			if err != nil {
				return err
			}
			return each(repos, func(r *repository) error {
				<-r.ready
				// If the tag exists and the base is not known to have changed, its layers
				// are probably there.
				named := r.current.Digest != v1.Hash{}
				if r.err != nil || named && !pub.bases.changed(r.name, platform.Key(pf), digest) {
					return r.err
				}
				// The push of an image later waits for these uploads and does not repeat
				// them.
				return pub.client.Carry(ctx, r.tags[0], layers...)
			})
		},
		OnImage: func(ctx context.Context, i build.Image) error {
			key := platform.Key(i.Platform)
			ctx = progress.WithTask(ctx, progress.Task{Program: p.spec.Name, Platform: key})
			log := pub.log.With("program", p.spec.Name, "platform", key)
			digest, err := i.Digest()
			if err != nil {
				return err
			}
			if len(repos) > 0 {
				log.InfoContext(ctx, "pushing")
			}
			var made *sbom
			if pub.sboms != nil {
				// One document serves all repositories.
				if made, err = pub.sboms.sbom(ctx, p, i, d.base(key)); err != nil {
					return fmt.Errorf("sbom: %w", err)
				}
				d.add(key, made)
			}
			err = each(repos, func(r *repository) error {
				if <-r.ready; r.err != nil {
					return r.err
				}
				// By digest, since no tag may name an image while other platforms can
				// still fail.
				err := pub.put(ctx, r.name+"@"+digest.String(), i.Image)
				if err == nil && made != nil {
					err = pub.attach(ctx, r.name, digest, made)
				}
				if err == nil {
					pub.bases.add(r.name, key, i.Base)
				}
				return err
			})
			if err == nil {
				log.InfoContext(ctx, "done", "digest", digest.String(), "duration", time.Since(start))
			}
			return err
		},
	}
}

// each calls do for all repositories at once, waits for all, and joins their errors in
// the order of repos. A panic becomes an error of its repository.
func each(repos []*repository, do func(*repository) error) error {
	errs := make([]error, len(repos))
	var wg sync.WaitGroup
	for i, r := range repos {
		wg.Go(func() { errs[i] = guard.Do(func() error { return do(r) }) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
