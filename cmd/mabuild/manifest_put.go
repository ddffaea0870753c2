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

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

const kindUsage = "Media `TYPE` of the index: oci or docker (default: oci, unless all images are Docker's)"

// An indexWriter is what the commands that write an index have in common.
type indexWriter struct {
	login       *targetLogin
	kind        string
	annotations []string
	unset       []string
	alsoTag     []string
	dryRun      bool
	digestLine  bool // manifest-tool's last line
}

func (w *indexWriter) bind(f *pflag.FlagSet) {
	f.StringVar(&w.kind, "type", "", kindUsage)
	f.StringArrayVar(&w.annotations, "annotation", nil, "Add `KEY=VALUE` to the index, or PLATFORM:KEY=VALUE to one entry; repeatable")
	f.StringSliceVar(&w.alsoTag, "also-tag", nil, "Also publish under this `TAG` or repository:tag; repeatable")
	f.BoolVar(&w.dryRun, "dry-run", false, "Print the index without writing it")
}

// begin checks the target and gets ready for it.
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
			errs = append(errs, checkTag(tag))
		}
	}
	return errors.Join(errs...)
}

// targets lists what the index is to be called.
func (w *indexWriter) targets(target string) []string {
	list := []string{target}
	for _, tag := range w.alsoTag {
		if tag = strings.TrimSpace(tag); !isFull(tag) {
			tag = withTag(target, tag)
		}
		list = append(list, tag)
	}
	return list
}

// fill sets in the assembly what the flags say.
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
		errs = append(errs, setAnnotation(as, text, true))
	}
	for _, text := range w.unset {
		errs = append(errs, setAnnotation(as, text, false))
	}
	return errors.Join(errs...)
}

// setAnnotation reads [index:|PLATFORM:]KEY=VALUE, or without a value what is to be
// taken away.
func setAnnotation(as *manifest.Assembly, text string, set bool) error {
	const way = "write KEY=VALUE, index:KEY=VALUE or linux/arm64:KEY=VALUE; omit =VALUE to remove an annotation"
	of, rest := annotationOf(text)
	key, value, ok := strings.Cut(rest, "=")
	if key == "" || ok != set {
		return usage(way, "annotation %q", text)
	}
	into := &as.Annotations
	if of != "" && of != "index" {
		p, err := platform.Parse(of)
		if err != nil {
			return usage(way, "annotation %q: %q is not a platform", text, of)
		}
		if as.ChildAnnotations == nil {
			as.ChildAnnotations = map[string]map[string]*string{}
		}
		own := as.ChildAnnotations[platform.Key(p)]
		into = &own
		defer func() { as.ChildAnnotations[platform.Key(p)] = *into }()
	}
	if *into == nil {
		*into = map[string]*string{}
	}
	if (*into)[key] = nil; set {
		(*into)[key] = &value
	}
	return nil
}

// write puts the index where it goes: straight to its tag; of several tags in one
// repository by its digest first.
func (w *indexWriter) write(ctx context.Context, a *app, idx v1.ImageIndex, target string) error {
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
	for _, r := range repositories(tags) {
		if err := a.putAll(ctx, r, d, idx); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, r.name)
	}
	for _, where := range done {
		if _, err := fmt.Fprintf(a.stdout, "%s@%s\n", where, d.Digest); err != nil {
			return err
		}
	}
	err = errors.Join(errs...)
	if err != nil && len(done) > 0 {
		return partialError{err}
	}
	if err == nil && w.digestLine {
		_, err = fmt.Fprintf(a.stdout, "Digest: %s %d\n", d.Digest, d.Size)
	}
	return err
}

// putAll makes the tags of one repository name the index.
func (a *app) putAll(ctx context.Context, r *repository, d v1.Descriptor, idx v1.ImageIndex) error {
	if len(r.tags) > 1 {
		if err := a.putIndex(ctx, r.name+"@"+d.Digest.String(), idx); err != nil {
			return err
		}
	}
	for n, tag := range r.tags {
		if err := a.putIndex(ctx, tag, idx); err != nil {
			return notMoved(r.tags[:n], r.tags[n:], err)
		}
	}
	return nil
}

// putIndex stores an index that was put together.
func (a *app) putIndex(ctx context.Context, ref string, idx v1.ImageIndex) error {
	return invalidManifest(a.client.Put(ctx, ref, idx), idx, "use --type docker if all images are Docker's", "")
}

func (a *app) putLocal(ctx context.Context, text string, c manifest.Content) error {
	place, err := placeOf(text)
	if err != nil {
		return invalid(err)
	}
	sink, err := place.Sink()
	if err != nil {
		return invalid(err)
	}
	return sink.Put(ctx, place.Ref(), c)
}
