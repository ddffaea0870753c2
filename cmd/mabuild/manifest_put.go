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
	var done, tags []string
	var errs []error
	for _, t := range w.targets(target) {
		if !local.Is(t) {
			tags = append(tags, t)
			continue
		}
		if err := a.putLocal(ctx, t, idx); err != nil {
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

// putLocal writes content to a local place.
func (a *app) putLocal(ctx context.Context, text string, c manifest.Content) error {
	place, err := places.ParseLocal(text)
	if err != nil {
		return invalid(err)
	}
	sink, err := place.Sink()
	if err != nil {
		return invalid(err)
	}
	return sink.Put(ctx, place.Ref(), c)
}
