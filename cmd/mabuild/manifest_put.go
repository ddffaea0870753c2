package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/assembly"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
)

// kindUsage describes --type, which manifest push has as well as its subcommands.
const kindUsage = "Media `TYPE` of the index: oci or docker (default: oci, unless all images are Docker's)"

// An indexWriter has the flags of the commands that write an index.
type indexWriter struct {
	login       *targetLogin
	kind        string
	annotations []string
	unset       []string
	alsoTag     []string
	dryRun      bool
	digestLine  bool // print manifest-tool's last line, with digest and size

	sources []manifest.Item // items whose referrers are copied; none without --referrers
}

// bind adds the flags.
func (w *indexWriter) bind(f *pflag.FlagSet) {
	f.StringVar(&w.kind, "type", "", kindUsage)
	f.StringArrayVar(&w.annotations, "annotation", nil, "Add `KEY=VALUE` to the index, or PLATFORM:KEY=VALUE to one entry; repeatable")
	f.StringSliceVar(&w.alsoTag, "also-tag", nil, "Also publish under this `TAG` or repository:tag; repeatable")
	f.BoolVar(&w.dryRun, "dry-run", false, "Print the index without writing it")
}

// begin starts the run, sets up the target's registry and checks flags and tags.
func (w *indexWriter) begin(a *app, cmd *cobra.Command, target string) error {
	if err := a.start(cmd); err != nil {
		return err
	}
	errs := []error{
		valued(cmd, "select", "platforms", "template", "target", "type", "also-tag", "tag", "username", "password", "docker-cfg"),
		w.login.apply(a.client, target),
	}
	for _, tag := range w.targets(target) {
		if !local.Is(tag) {
			errs = append(errs, places.CheckTag(tag))
		}
	}
	return errors.Join(errs...)
}

// targets returns all references under which the index is published: target first, then
// those of --also-tag. A tag alone is in the repository of target.
func (w *indexWriter) targets(target string) []string {
	list := []string{target}
	for _, tag := range w.alsoTag {
		// A tag alone, without a slash or colon, is one in the target's repository.
		if tag = strings.TrimSpace(tag); !places.HasRepository(tag) {
			tag = places.WithTag(target, tag)
		}
		list = append(list, tag)
	}
	return list
}

// fill sets the fields of the assembly that the flags give.
func (w *indexWriter) fill(a *app, as *manifest.Assembly) (err error) {
	as.Log = a.log
	switch w.kind {
	case "":
	case "oci":
		as.Type = types.OCIImageIndex
	case "docker":
		as.Type = types.DockerManifestList
	default:
		return usage("use --type oci or --type docker", "unknown type %q", w.kind)
	}
	var errs []error
	for _, text := range w.annotations {
		errs = append(errs, assembly.SetAnnotation(as, text, true))
	}
	for _, text := range w.unset {
		errs = append(errs, assembly.SetAnnotation(as, text, false))
	}
	return errors.Join(errs...)
}

// write puts the index to all targets, and prints repository@digest for each that is
// complete, local places first. An error at one target does not stop the others; if some
// are complete, the result is then a [hint.PartialError]. A dry run only prints the index.
func (w *indexWriter) write(ctx context.Context, a *app, idx v1.ImageIndex, target string) error {
	// The digest is known before anything is sent.
	d, err := manifest.Describe(idx)
	if err != nil {
		return err
	}
	if w.dryRun {
		raw, err := idx.RawManifest()
		if err != nil {
			return err
		}
		return writeExact(a.stdout, raw)
	}
	found, err := w.found(ctx, a, idx)
	if err != nil {
		return err
	}
	var done, tags []string
	var errs []error
	for _, t := range w.targets(target) {
		if !local.Is(t) {
			tags = append(tags, t)
			continue
		}
		if err := a.putLocal(ctx, t, idx, found); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t, err))
			continue
		}
		done = append(done, t)
	}
	// Tags of the same repository are put together, since the content is stored there
	// only once.
	put := func(ref string) error {
		return invalidManifest(a.client.Put(ctx, ref, idx), idx, "--type docker if all images are Docker's", "")
	}
	for _, tags := range publish.ByRepository(tags) {
		if err := a.putReferrers(ctx, tags[0], found); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := publish.MoveTags(tags, d.Digest, put, func(string) {}); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, imageref.Cut(tags[0]).Repository)
	}
	for _, where := range done {
		if _, err := fmt.Fprintf(a.stdout, "%s@%s\n", where, d.Digest); err != nil {
			return err
		}
	}
	err = errors.Join(errs...)
	if err != nil && len(done) > 0 {
		return hint.PartialError{Err: err}
	}
	if err == nil && w.digestLine {
		_, err = fmt.Fprintf(a.stdout, "Digest: %s %d\n", d.Digest, d.Size)
	}
	return err
}

// found returns the referrers of the images of an index that its sources list, in the order
// in which they are stored. One of the index itself is found if it is a source.
func (w *indexWriter) found(ctx context.Context, a *app, idx v1.ImageIndex) ([]foundReferrer, error) {
	if len(w.sources) == 0 {
		return nil, nil
	}
	kept := map[v1.Hash]bool{}
	if err := manifest.Walk(idx, nil, func(n manifest.Node) error { kept[n.Descriptor.Digest] = true; return nil }); err != nil {
		return nil, err
	}
	var all []foundReferrer
	for _, item := range w.sources {
		from, err := places.Parse(item.Ref)
		if err != nil {
			return nil, err
		}
		c, err := a.places().Get(ctx, item.Ref)
		if errors.Is(err, manifest.ErrNotFound) { // --ignore-missing
			continue
		}
		if err != nil {
			return nil, err
		}
		err = manifest.Walk(c, nil, func(n manifest.Node) error {
			if !kept[n.Descriptor.Digest] {
				return nil
			}
			return places.EachReferrer(ctx, a.places(), from, n.Descriptor.Digest, places.CosignSuffixes, func(r manifest.Referrer) error {
				c, err := a.places().Get(ctx, from.ByDigest(r.Digest).String())
				all = append(all, foundReferrer{r, c})
				return err
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// A foundReferrer is a referrer with its content.
type foundReferrer struct {
	manifest.Referrer
	content manifest.Content
}

// at returns the reference of the referrer beside another one.
func (f foundReferrer) at(target places.Reference) string {
	if f.Tag != "" {
		return target.Cosign(f.Tag).String()
	}
	return target.ByDigest(f.Digest).String()
}

// putReferrers stores referrers in the repository of a tag, before the tag moves.
func (a *app) putReferrers(ctx context.Context, tag string, all []foundReferrer) error {
	target, err := places.Parse(tag)
	if err != nil {
		return err
	}
	for _, f := range all {
		if err := a.client.Put(ctx, f.at(target), f.content); err != nil {
			return err
		}
	}
	return nil
}

// putLocal writes content to a local place, with referrers if there are any.
func (a *app) putLocal(ctx context.Context, text string, c manifest.Content, found []foundReferrer) error {
	place, err := places.ParseLocal(text)
	if err != nil {
		return invalid(err)
	}
	sink, err := place.Sink()
	if err != nil {
		return invalid(err)
	}
	if len(found) == 0 {
		return sink.Put(ctx, place.Ref(), c)
	}
	target, err := places.Parse(text)
	if err != nil {
		return err
	}
	var all []manifest.Named
	for _, f := range found {
		all = append(all, manifest.Named{Ref: f.at(target), Content: f.content})
	}
	return a.places().PutAll(ctx, append(all, manifest.Named{Ref: text, Content: c})...)
}
