// Package publish builds programs and publishes their images: a [Plan] in, a [Result] out.
//
// The steps of one plan, of which the first two run at the same time:
//
//	prepare   each repository is asked what the first tag names, which tests the credentials
//	build     each image is stored by digest as soon as it is made, with its SBOM
//	outputs   the local destinations are written
//	attach    signatures and provenance are stored, after the index by its digest
//	gate      what must hold before a tag moves is asked; see Publisher.Gate
//	tags      the tags of each repository move
//
// A tag moves only if every step before it has succeeded for every platform. After an
// error the Result has the destinations that are complete. Digests that were stored stay,
// and no tag names them.
//
// The package words no hints about flags: see Publisher.Explain.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/internal/sign"
	"github.com/mabuild/mabuild/internal/smoke"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A Plan is one program to build, with its destinations.
type Plan struct {
	Spec    build.Spec // resolved
	Tags    []string   // repository:tag, in the order given
	Outputs []Output   // local destinations
	NoIndex bool       // publish the image of the only platform without an index
	Smoke   smoke.Test // what the program must do, if the Publisher has Smoke
	// Origin returns where the sources and settings came from, for the provenance. It is
	// called only if provenance is made; nil without.
	Origin func(context.Context) (attest.Origin, error)
}

// An Output is a local destination.
type Output struct {
	Text     string // as the user wrote it
	Place    local.Place
	Sink     manifest.Sink
	Ref      string           // the image's name there
	Platform ocispec.Platform // of the only image that it holds; zero: holds all
	Digest   v1.Hash          // of its content once it is complete: the index, or the only image
}

// About adds the output to an error, unless the message contains its path already.
func (o Output) About(err error) error {
	if o.Place.NamedIn(err) {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimSuffix(o.Text, ":"), err)
}

// A Result is what became of a plan. After an error it has the destinations that are
// complete.
type Result struct {
	Name    string
	Content manifest.Content // the index, or the only image
	Digest  v1.Hash          // of Content
	Images  []build.Image
	SBOMs   []v1.Image // the artifact of each image, in the order of Images; or none
	// Smoke has what became of the test of each image, in the order of Images; or none.
	Smoke []smoke.Result
	// Attachments are the signatures and the provenance, those of the whole first.
	Attachments []Attachment

	Repositories []string // those whose tags all moved, in the order given
	Tags         []string // those that moved
	Outputs      []Output // those that are complete

	listed []Attachment // statements in the index, see run.listStatements
}

// Anywhere reports whether any destination is complete. r may be nil.
func (r *Result) Anywhere() bool { return r != nil && len(r.Repositories)+len(r.Outputs) > 0 }

// A Publisher builds and publishes the programs of a run. The fields must not change after
// the first call. It is safe for concurrent use.
type Publisher struct {
	Builder *build.Builder
	Client  *registry.Client
	// Cache keeps SBOMs and what was pushed with them between runs; nil keeps nothing.
	Cache *cache.Cache
	Log   *slog.Logger

	// SBOM is the format of the SBOMs; "" makes none. With SBOMBase they list the
	// packages of the base image. SBOMDir also gets them as files; "" writes none. Tool is
	// the version of mabuild in them.
	SBOM     attest.Format
	SBOMBase bool
	SBOMDir  string
	Tool     string

	// Signer signs the result as a whole; nil signs nothing. SignFormat is bundle, legacy or
	// both, and AttachTo auto, index or all.
	Signer               sign.Signer
	SignFormat, AttachTo string
	// Provenance describes how the images were made. It is signed if there is a Signer.
	// With InIndex the index lists the unsigned one, too, and the SBOMs.
	Provenance, InIndex bool
	// SignerID identifies the signer, and Settings the form of the provenance, in the cache and
	// in the annotations of what is attached. They hold no secret.
	SignerID, Settings string

	// Smoke starts the program of each image after it is stored by its digest. If one fails, no
	// tag moves. nil starts none.
	Smoke *smoke.Runner
	// Gate is asked for each repository before its tags move, with the image by its digest,
	// which is stored; an error leaves all tags as they are. It is not asked if all tags of
	// the repository name the image already. nil asks nothing.
	Gate func(ctx context.Context, image string, r *Result) error

	// Records has what other machines have compiled, and gets what is compiled here; nil:
	// programs are compiled. Builder.Recalls must be set with it.
	Records *records.Repository
	// Strict makes it an error if a program was compiled to another layer than its record has.
	// No tag moves then.
	Strict bool
	// Explain adds a hint to the error of a Put of content; nil adds none.
	Explain func(err error, content manifest.Content) error

	packages once.Memo[v1.Hash, *attest.Packages] // by the digest of the base image
	// writing is held while an SBOM is made, to bound memory: a base image can have
	// thousands of packages.
	writing sync.Mutex
}

// All publishes all plans at once. It returns the result and the error of each, in their
// order. A plan that fails does not stop the others, and a panic is the error of its plan.
// each, which may be nil, is called with the position and the result of a plan that has
// succeeded, in the order in which they do and never twice at once.
func (pub *Publisher) All(ctx context.Context, plans []Plan, each func(int, *Result)) ([]*Result, []error) {
	done, errs := make([]*Result, len(plans)), make([]error, len(plans))
	var calling sync.Mutex
	var wg sync.WaitGroup
	for i, p := range plans {
		wg.Go(func() {
			errs[i] = guard.Report(ctx, pub.Log, p.Spec.Name, func() (err error) { done[i], err = pub.Publish(ctx, p); return err })
			if each != nil && errs[i] == nil {
				calling.Lock()
				defer calling.Unlock()
				each(i, done[i])
			}
		})
	}
	wg.Wait()
	if pub.Records != nil {
		pub.Records.StoreGoCaches(ctx)
	}
	return done, errs
}

// Publish builds p and publishes it.
//
// While the program is built, one goroutine for each repository prepares the push, which
// tests the credentials. If a registry refuses, its goroutine cancels the build, so that
// the error comes early. In return, a build that fails cancels the preparation.
//
// Both cancellations use one context, so its cause alone does not say which error is the
// reason. The build's error is reported unless a refusal had cancelled it; then the
// refusals are. Every return waits for all goroutines, and releases the upload sessions
// that no blob has used.
//
// If a recalled layer turns out to be spoilt, the plan is published again without build
// records.
func (pub *Publisher) Publish(ctx context.Context, p Plan) (*Result, error) {
	var spoilt atomic.Bool
	out, err := pub.publish(ctx, p, pub.recalling(&spoilt))
	if err == nil || !spoilt.Load() || ctx.Err() != nil {
		return out, err
	}
	return pub.publish(ctx, p, build.Hooks{Anew: true})
}

// recalling returns the hooks that take layers from Records. spoilt is set if one of them
// cannot be used.
func (pub *Publisher) recalling(spoilt *atomic.Bool) build.Hooks {
	if pub.Records == nil {
		return build.Hooks{}
	}
	return build.Hooks{Recall: pub.Records.Recall, Check: pub.Records.Check, Spoilt: func(p ocispec.Platform, err error) {
		pub.Log.Warn(fmt.Sprintf("the build record of %s in %s is spoilt, so the program is compiled: %v", platform.Key(p), pub.Records.Name, err))
		spoilt.Store(true)
	}}
}

// publish is Publish with the hooks for build records.
func (pub *Publisher) publish(parent context.Context, p Plan, hooks build.Hooks) (*Result, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	r := pub.newRun(p)
	defer r.prepare(ctx, cancel)()
	hooks.OnBase, hooks.OnImage = r.onBase, r.onImage
	result, err := pub.Builder.Build(ctx, p.Spec, hooks)
	// Only a refusal can have cancelled ctx until now, unless the caller has cancelled
	// parent.
	refused := context.Cause(ctx) != nil && parent.Err() == nil
	if err != nil {
		cancel(err) // nothing uses what is still asked
	}
	if err != nil && !refused {
		return nil, err
	}
	if refusals := r.refusals(); refusals != nil {
		return nil, refusals
	}
	if err != nil {
		return nil, err
	}
	stored := r.remember(ctx, result.Images)
	if r.Strict {
		if err := stored(); err != nil {
			return nil, err
		}
	}
	out, err := r.finish(ctx, result)
	return out, errors.Join(err, stored())
}

// remember starts to store the records of the programs that were compiled, and of those that
// this machine remembers. The returned function waits for that.
func (r *run) remember(ctx context.Context, images []build.Image) (wait func() error) {
	var group errgroup.Group
	var stored sync.Map // by key: versions of Windows share a program
	for _, img := range images {
		r.keepInputs(img)
		if r.Records == nil || !r.Records.Write || img.Recalled {
			continue
		}
		group.Go(func() error {
			return guard.Report(ctx, r.Log, platform.Key(img.Platform), func() error { return r.record(ctx, img, &stored) })
		})
	}
	return group.Wait
}

// record stores the record of an image, unless one of another image is the same, or it was seen
// in the repository before and nothing was compiled.
func (r *run) record(ctx context.Context, img build.Image, stored *sync.Map) error {
	if img.Binary.Path == "" {
		if r.seen(img.Key) {
			return nil
		}
		img = img.Keyed(ctx)
		r.keepInputs(img)
	}
	if _, before := stored.LoadOrStore(img.Key, true); before || img.Key == "" {
		return nil
	}
	return r.storeRecord(ctx, img)
}

// finish writes the SBOM files and the local destinations, and moves the tags last, since
// others act on a tag at once. If anything before failed, no tag moves. The result lists
// what is complete even if there is an error, so that it can be printed and recorded.
func (r *run) finish(ctx context.Context, built *build.Result) (*Result, error) {
	out := &Result{Name: r.plan.Spec.Name, Content: built.Index, Images: built.Images, SBOMs: inOrder(r, built.Images, r.sboms), Smoke: r.smoked(built.Images)}
	if r.plan.NoIndex {
		out.Content = built.Images[0].Image
	}
	var err error
	if out.Digest, err = out.Content.Digest(); err != nil {
		return nil, err
	}
	if err := r.listStatements(ctx, out); err != nil {
		return out, err
	}
	// Nothing is signed unless it is needed, and once at most.
	m := r.making(ctx, out)
	errs := []error{r.save(out.SBOMs)}
	for _, o := range r.plan.Outputs {
		if err := r.fill(ctx, &o, out, m); err != nil {
			errs = append(errs, o.About(err))
			continue
		}
		out.Outputs = append(out.Outputs, o)
	}
	if err := errors.Join(errs...); err != nil { // no tag may point to it
		return out, err
	}
	if r.attests() {
		if err := r.each(func(repo *repository) error { return r.attach(ctx, repo, out, m) }); err != nil {
			return out, err
		}
	}
	if err := r.askGate(ctx, out); err != nil {
		return out, err
	}
	err = r.each(func(repo *repository) error { return r.move(ctx, repo, out) })
	for _, repo := range r.repos {
		// A repository counts only if all its tags moved. Tags that moved before an error
		// are reported nevertheless.
		if repo.moved == len(repo.tags) {
			out.Repositories = append(out.Repositories, repo.name)
		}
		out.Tags = append(out.Tags, repo.tags[:repo.moved]...)
	}
	return out, err
}

// HoldsSBOMs reports whether the SBOMs of the images are stored in the output. In others
// they are left out.
func (o Output) HoldsSBOMs() bool {
	_, ok := o.Sink.(manifest.BatchPutter)
	return ok
}

// Archive reports whether the output is a file or directory, and not a daemon.
func (o Output) Archive() bool {
	return o.Place.Form == local.FormDockerArchive || o.Place.Form == local.FormArchive || o.Place.Form == local.FormLayout
}

// fill writes the result to a local destination, with what refers to it if the destination
// can hold that. An archive is a single file, so all are put in one call.
func (r *run) fill(ctx context.Context, o *Output, out *Result, m made) error {
	batch, batches := o.Sink.(manifest.BatchPutter)
	var err error
	if batches && (len(out.SBOMs) > 0 || r.attests()) {
		var all []manifest.Named
		if all, err = r.beside(out, m); err == nil {
			err = batch.PutAll(ctx, append(all, manifest.Named{Ref: o.Ref, Content: out.Content})...)
		}
	} else {
		err = o.Sink.Put(ctx, o.Ref, out.Content)
	}
	if o.Digest = out.Digest; err != nil || o.Platform.OS == "" {
		return err
	}
	// The destination holds one image, so its digest is not that of the index. The caller
	// has checked that there is one.
	have := make([]ocispec.Platform, len(out.Images))
	for i, img := range out.Images {
		have[i] = img.Platform
	}
	at, ok := platform.Choose(o.Platform, have)
	if !ok {
		return fmt.Errorf("no image for %s, only for %s", platform.Key(o.Platform), platform.Keys(have))
	}
	r.Log.InfoContext(ctx, o.Text+" takes one platform: "+platform.Key(have[at]))
	o.Digest, err = out.Images[at].Digest()
	return err
}

// askGate asks Gate for each repository with a tag that would move, after the content is
// stored by its digest.
func (r *run) askGate(ctx context.Context, out *Result) error {
	if r.Gate == nil {
		return nil
	}
	return r.each(func(repo *repository) error {
		if r.unchanged(ctx, repo, out) {
			r.Log.InfoContext(ctx, "the command before the tag is not run, since no tag moves", "repository", repo.name)
			return nil
		}
		at := repo.name + "@" + out.Digest.String()
		if err := r.put(ctx, at, out.Content); err != nil {
			return err
		}
		return r.Gate(ctx, at, out)
	})
}

// move moves the tags of a repository. repo.moved counts them, also after an error.
func (r *run) move(ctx context.Context, repo *repository, out *Result) error {
	put := func(ref string) error { return r.put(ctx, ref, out.Content) }
	return MoveTags(repo.tags, out.Digest, put, func(tag string) {
		became := "published"
		// The tag already named this content, so it was not put again.
		if r.Client.Found(tag) {
			became = "unchanged"
		}
		shown := tag
		if imageref.Cut(tag).Tag == "" {
			shown += ":latest"
		}
		r.Log.InfoContext(ctx, became, "tag", shown)
		repo.moved++
	})
}

// put stores content under ref.
func (pub *Publisher) put(ctx context.Context, ref string, c manifest.Content) error {
	return pub.explain(pub.Client.Put(ctx, ref, c), c)
}

// explain adds to an error about content, or nil, what Explain knows.
func (pub *Publisher) explain(err error, c manifest.Content) error {
	if err != nil && pub.Explain != nil {
		err = pub.Explain(err, c)
	}
	return err
}

// MoveTags calls put for each tag of one repository, one after another, and moved after
// each. If there are several tags, the content is stored by digest first: a registry that
// rejects it then does so before any tag has moved. The registry has no transaction over
// several tags, so an error between two of them leaves the first moved; the error names
// both kinds.
func MoveTags(tags []string, digest v1.Hash, put func(ref string) error, moved func(tag string)) error {
	if len(tags) > 1 {
		if err := put(imageref.Cut(tags[0]).Repository + "@" + digest.String()); err != nil {
			return err
		}
	}
	for n, tag := range tags {
		if err := put(tag); err != nil && n > 0 {
			return fmt.Errorf("published %s, but not %s: %w", strings.Join(tags[:n], ", "), strings.Join(tags[n:], ", "), err)
		} else if err != nil {
			return err
		}
		moved(tag)
	}
	return nil
}

// ByRepository groups references by repository, in the order given.
func ByRepository(refs []string) [][]string {
	var groups [][]string
	at := map[string]int{}
	for _, ref := range refs {
		repo := imageref.Cut(ref).Repository
		i, known := at[repo]
		if !known {
			i = len(groups)
			at[repo] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], ref)
	}
	return groups
}
