package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// finish fills the local destinations and moves the tags: those last, as others
// act on them at once. What is whole is in the result also when something failed.
func (pub *publisher) finish(ctx context.Context, p program, repos []*repository, r *build.Result, bills []*sbom) (*published, error) {
	out := &published{name: p.spec.Name, content: r.Index, images: r.Images, sboms: bills}
	if p.noIndex {
		out.content = r.Images[0].Image
	}
	var err error
	if out.digest, err = out.content.Digest(); err != nil {
		return nil, err
	}
	errs := []error{pub.sboms.save(bills)}
	for _, o := range p.outputs {
		f := filled{o, out.digest}
		err := pub.fill(ctx, o, out)
		if err == nil && o.platform.OS != "" {
			f.digest, err = pub.chosen(ctx, o, out)
		}
		if err != nil {
			errs = append(errs, about(o, err))
			continue
		}
		out.outputs = append(out.outputs, f)
	}
	if err := errors.Join(errs...); err != nil { // no tag says that all is well
		return out, err
	}
	err = each(repos, func(repo *repository) error { return pub.move(ctx, repo, out) })
	for _, repo := range repos {
		if repo.moved == len(repo.tags) {
			out.repos = append(out.repos, repo.name)
		}
		out.tags = append(out.tags, repo.tags[:repo.moved]...)
	}
	return out, err
}

// fill puts what was built into a local destination, with its SBOMs where that has
// a place for them.
func (pub *publisher) fill(ctx context.Context, o output, p *published) error {
	if len(p.sboms) == 0 {
		return o.sink.Put(ctx, o.ref, p.content)
	}
	if batch, ok := o.sink.(manifest.BatchPutter); ok {
		return batch.PutAll(ctx, beside(o.ref, p.content, p.sboms)...)
	}
	pub.log.WarnContext(ctx, o.text+" cannot hold SBOMs; write them to files with --sbom-dir")
	return o.sink.Put(ctx, o.ref, p.content)
}

// about says which output an error is about, unless it does so itself.
func about(o output, err error) error {
	if o.place.NamedIn(err) {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimSuffix(o.text, ":"), err)
}

// chosen returns the digest of the image that an output took, which takes one, and
// says which that is.
func (pub *publisher) chosen(ctx context.Context, o output, p *published) (v1.Hash, error) {
	have := make([]ocispec.Platform, len(p.images))
	for i, img := range p.images {
		have[i] = img.Platform
	}
	at, ok := platform.Choose(o.platform, have)
	if !ok { // which was looked at before
		return v1.Hash{}, fmt.Errorf("no image for %s, only for %s", platform.Key(o.platform), platform.Keys(have))
	}
	pub.log.InfoContext(ctx, o.text+" takes one platform: "+platform.Key(have[at]))
	return p.images[at].Digest()
}

// move moves a repository's tags one after another. Where there are several the
// content is stored by digest first, so that what a registry finds wrong with it
// moves none of them.
func (pub *publisher) move(ctx context.Context, repo *repository, p *published) error {
	if len(repo.tags) > 1 {
		if err := pub.put(ctx, repo.name+"@"+p.digest.String(), p.content); err != nil {
			return err
		}
	}
	for n, tag := range repo.tags {
		if err := pub.put(ctx, tag, p.content); err != nil {
			return notMoved(repo.tags[:n], repo.tags[n:], err)
		}
		became := "published"
		if pub.client.Found(tag) {
			became = "unchanged"
		}
		pub.log.InfoContext(ctx, became, "tag", tag)
		repo.moved++
	}
	return nil
}

// put stores what a push made.
func (pub *publisher) put(ctx context.Context, ref string, c manifest.Content) error {
	noIndex := ""
	if mediaType, err := c.MediaType(); err == nil && mediaType.IsIndex() {
		noIndex = "--no-index with one platform"
	}
	return invalidManifest(pub.client.Put(ctx, ref, c), c, "--media-types docker", noIndex)
}

// notMoved says which tags moved before one did not.
func notMoved(moved, not []string, err error) error {
	if len(moved) == 0 {
		return err
	}
	return fmt.Errorf("published %s, but not %s: %w", strings.Join(moved, ", "), strings.Join(not, ", "), err)
}
