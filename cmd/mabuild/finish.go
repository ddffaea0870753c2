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

// finish writes the SBOM files and the local destinations, and moves the tags last, since
// others act on a tag at once. If anything before failed, no tag moves. The result lists
// what is complete even if there is an error, so that it can be printed and recorded.
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
		o.digest = out.digest
		err := pub.fill(ctx, o, out)
		// The destination holds one image, so its digest is not that of the index.
		if err == nil && o.platform.OS != "" {
			o.digest, err = pub.chosen(ctx, o, out)
		}
		if err != nil {
			errs = append(errs, about(o, err))
			continue
		}
		out.outputs = append(out.outputs, o)
	}
	if err := errors.Join(errs...); err != nil { // no tag may point to it
		return out, err
	}
	err = each(repos, func(repo *repository) error { return pub.move(ctx, repo, out) })
	for _, repo := range repos {
		// A repository counts only if all its tags moved. Tags that moved before an error
		// are reported nevertheless.
		if repo.moved == len(repo.tags) {
			out.repos = append(out.repos, repo.name)
		}
		out.tags = append(out.tags, repo.tags[:repo.moved]...)
	}
	return out, err
}

// fill writes the result to a local destination, with its SBOMs if the destination can
// hold them. An archive is a single file, so image and SBOMs are put in one call.
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

// about adds the output to an error, unless the message contains its path already.
func about(o output, err error) error {
	if o.place.NamedIn(err) {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimSuffix(o.text, ":"), err)
}

// chosen returns the digest of the image in an output that holds only one, and logs its
// platform. newOutput has checked before that there is one.
func (pub *publisher) chosen(ctx context.Context, o output, p *published) (v1.Hash, error) {
	have := make([]ocispec.Platform, len(p.images))
	for i, img := range p.images {
		have[i] = img.Platform
	}
	at, ok := platform.Choose(o.platform, have)
	if !ok {
		return v1.Hash{}, fmt.Errorf("no image for %s, only for %s", platform.Key(o.platform), platform.Keys(have))
	}
	pub.log.InfoContext(ctx, o.text+" takes one platform: "+platform.Key(have[at]))
	return p.images[at].Digest()
}

// move moves the tags of a repository one after another. If there are several, the
// content is stored by digest first: a registry that rejects it then does so before any
// tag has moved. repo.moved counts the tags that were moved, also after an error. The
// registry has no transaction over several tags, so an error between two of them leaves
// the first moved.
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
		// The tag already named this content, so it was not put again.
		if pub.client.Found(tag) {
			became = "unchanged"
		}
		pub.log.InfoContext(ctx, became, "tag", tag)
		repo.moved++
	}
	return nil
}

// put stores content under ref. If the registry rejects the manifest, the error has the
// flags that may help.
func (pub *publisher) put(ctx context.Context, ref string, c manifest.Content) error {
	noIndex := ""
	if mediaType, err := c.MediaType(); err == nil && mediaType.IsIndex() {
		noIndex = "--no-index with one platform"
	}
	return invalidManifest(pub.client.Put(ctx, ref, c), c, "--media-types docker", noIndex)
}

// notMoved adds to err which tags were moved before it and which were not.
func notMoved(moved, not []string, err error) error {
	if len(moved) == 0 {
		return err
	}
	return fmt.Errorf("published %s, but not %s: %w", strings.Join(moved, ", "), strings.Join(not, ", "), err)
}
