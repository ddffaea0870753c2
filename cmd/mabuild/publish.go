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

// A program is one build and where it goes.
type program struct {
	spec    build.Spec // complete
	refs    []string   // repository:tag, in the order asked
	outputs []output   // local destinations
	noIndex bool       // a plain image, of the only platform
}

// An output is a local destination.
type output struct {
	text     string
	place    local.Place
	sink     manifest.Sink
	ref      string           // the image's name there
	platform ocispec.Platform // the only one that it takes; the zero value: all
}

// A filled output is whole.
type filled struct {
	output
	digest v1.Hash // of what it has: the index, or the only image it takes
}

// published is what became of a program, and where it is whole.
type published struct {
	name    string
	content manifest.Content
	digest  v1.Hash
	images  []build.Image
	sboms   []*sbom // one for each image, or none

	repos   []string // in the order asked, as all below
	tags    []string
	outputs []filled
}

// anywhere reports whether any destination is whole.
func (p *published) anywhere() bool { return p != nil && len(p.repos)+len(p.outputs) > 0 }

// A publisher builds programs and puts them where they go.
type publisher struct {
	builder *build.Builder
	client  *registry.Client
	log     *slog.Logger
	sboms   *sbomWriter // nil: no SBOMs
	bases   baseline
}

// A repository is one that a program goes to. The index moves to its tags one
// after another.
type repository struct {
	name string   // as the person wrote it
	tags []string // name:tag

	moved int // how many of the tags

	ready   chan struct{} // closed when the fields below are set
	current v1.Descriptor // what the first tag names now
	release func()
	err     error
	ended   bool // err is no answer: something else had ended the run
}

// repositories groups references, in the order asked.
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

// withoutTag is the repository of a reference.
func withoutTag(ref string) string { return manifest.CutReference(ref).Repository }

// checkTag refuses what is no repository:tag.
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

// publish builds p and publishes it. Whether the tags can be written is asked
// beside the build, and an answer that they cannot ends it.
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
				r.release, r.ended = func() {}, ctx.Err() != nil
				cancel(r.err)
			}
		})
	}
	defer func() {
		for _, r := range repos {
			<-r.ready
			r.release()
		}
	}()
	d := newPlatformResults()
	result, err := pub.builder.Build(ctx, p.spec, pub.hooks(p, repos, d))
	refused := context.Cause(ctx) != nil && parent.Err() == nil
	if err != nil {
		cancel(err) // the answers that are still out matter to nobody
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

// refusals waits for the repositories' answers and joins what speaks against
// them. What was asked in vain, since another's refusal ended it, says nothing of
// its own.
func refusals(repos []*repository) error {
	var errs []error
	for _, r := range repos {
		if <-r.ready; r.err != nil && !r.ended {
			errs = append(errs, r.err)
		}
	}
	return errors.Join(errs...)
}

// hooks send what there is as soon as it is there.
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
				named := r.current.Digest != v1.Hash{}
				if r.err != nil || named && !pub.bases.moved(r.name, platform.Key(pf), digest) {
					return r.err
				}
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
				if made, err = pub.sboms.sbom(ctx, p, i, d.base(key)); err != nil {
					return fmt.Errorf("sbom: %w", err)
				}
				d.add(key, made)
			}
			err = each(repos, func(r *repository) error {
				if <-r.ready; r.err != nil {
					return r.err
				}
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

// each does something for all repositories at once.
func each(repos []*repository, do func(*repository) error) error {
	errs := make([]error, len(repos))
	var wg sync.WaitGroup
	for i, r := range repos {
		wg.Go(func() { errs[i] = guard.Do(func() error { return do(r) }) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
