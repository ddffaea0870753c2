package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/template"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/web"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// inspectOptions are the flags of inspect and, below, what parse makes of them.
type inspectOptions struct {
	json, raw, digest bool
	sizes, referrers  bool
	provenance        bool
	format            string
	html              string
	platform          string
	require           []string

	width    int // of the terminal in columns; 0 if there is none
	template *template.Template
	options  manifest.InspectOptions
	required []ocispec.Platform
}

// inspectOnce are groups of flags that exclude each other: a format of the output, or
// something that this format cannot show.
var inspectOnce = [][]string{
	{"json", "raw", "digest", "format", "provenance"},
	{"raw", "size"},
	{"raw", "html"},
	{"provenance", "html"},
	{"raw", "referrers"},
	{"raw", "require"},
	{"digest", "size"},
	{"digest", "referrers"},
}

// newInspect returns the command inspect. It also exists below manifest, as manifest-tool
// has it; there l has the flags for the registries of the images. l is nil otherwise.
func newInspect(a *app, l *targetLogin) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:     "inspect IMAGE…",
		Aliases: []string{"mquery"},
		Short:   "Show the platforms of an image",
		Long: `Show the platforms of an image, one per line, with a single request.
IMAGE is an image in a registry, or oci:DIR, oci-archive:FILE or
docker-archive:FILE. For several images, a table of images and platforms is printed;
a place without a name stands for all its images.`,
		Example: `  mabuild inspect alpine:3.22
  mabuild inspect --size --referrers ghcr.io/acme/app:v1
  mabuild inspect --platform linux/arm64 ghcr.io/acme/app:v1
  mabuild inspect --require linux/amd64,linux/arm64 ghcr.io/acme/app:v1
  mabuild inspect --format '{{range .Platforms}}{{.Platform}} {{.Digest}}{{"\n"}}{{end}}' oci:./layout`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && cmd.Flags().Changed("config") {
				return usage("--config names mabuild's own file; --platform PLATFORM prints the config of an image", "%s requires IMAGE", commandName(cmd))
			}
			return atLeastOne("IMAGE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			if err := errors.Join(exclusive(cmd, inspectOnce...), valued(cmd, "require", "platform", "format", "html", "username", "password", "docker-cfg")); err != nil {
				return err
			}
			if err := errors.Join(o.parse(args), l.applyAll(a.client, args)); err != nil {
				return err
			}
			return runInspect(cmd.Context(), a, o, args)
		},
	}
	f := cmd.Flags()
	bindJSON(f, &o.json, "Print a JSON report (docs/inspect.schema.json), or an array of them for several images")
	f.BoolVar(&o.raw, "raw", false, "Print the exact bytes of the manifest")
	f.BoolVar(&o.digest, "digest", false, "Print only the digest")
	f.StringVar(&o.format, "format", "", "Print the report with this Go `TEMPLATE`")
	f.StringVar(&o.html, "html", "", "Also write a report with sizes and referrers to this `FILE` as HTML; - prints it instead")
	f.BoolVar(&o.sizes, "size", false, "Add the size of each image; needs one more request per image")
	f.BoolVar(&o.referrers, "referrers", false, "Add the referrers of each image (SBOM, provenance, signature); needs one or two more requests per image")
	f.BoolVar(&o.provenance, "provenance", false, "Print the SLSA provenance as JSON; its signature is not checked (mabuild verify does that)")
	f.StringVar(&o.platform, "platform", "", "Show only the image for this `PLATFORM`, with its config; also applies to --digest and --raw (also --platforms)")
	alike(f, map[string]string{"platforms": "platform"})
	f.StringSliceVar(&o.require, "require", nil, "Exit with 1 unless the image supports all these `PLATFORMS`")
	return cmd
}

// parse checks the flags and fills the fields derived from them. It reads no image
// of refs.
func (o *inspectOptions) parse(refs []string) (err error) {
	var errs []error
	for _, ref := range refs {
		if plan.IsPlatform(ref) {
			errs = append(errs, usage("separate platforms by commas: --require linux/amd64,"+ref, "%s is a platform, not an image", ref))
		}
	}
	o.options = manifest.InspectOptions{Sizes: o.sizes || o.html != "", Referrers: o.referrers || o.provenance || o.html != ""}
	if o.html == "-" && (o.json || o.digest || o.format != "") {
		errs = append(errs, usage("write the report to a file: --html FILE", "--html - prints the report alone, without --json, --digest and --format"))
	}
	if o.html != "" && o.html != "-" {
		errs = append(errs, writable("--html", o.html))
	}
	if o.platform != "" {
		o.options.Platform, err = platform.Parse(o.platform)
		errs = append(errs, err)
	}
	if len(o.require) > 0 {
		o.required, err = platform.ParseList(o.require)
		errs = append(errs, err)
	}
	if o.format != "" && !strings.Contains(o.format, "{{") {
		errs = append(errs, usage(`for JSON use --json; a template is for example --format '{{.Digest}}'`, "--format %q is not a template", o.format))
	} else if o.format != "" {
		if o.template, err = parseFormat(o.format); err != nil {
			errs = append(errs, usage(`for example --format '{{.Digest}}'`, "--format: %s", err))
		}
	}
	if o.raw && len(refs) > 1 {
		errs = append(errs, usage("inspect them one by one", "--raw takes one image"))
	}
	if o.provenance && len(refs) > 1 {
		errs = append(errs, usage("inspect them one by one", "--provenance takes one image"))
	}
	return errors.Join(errs...)
}

// An inspected is the outcome for one argument: a report or an error.
type inspected struct {
	ref    string
	report *manifest.Report
	err    error
}

// runInspect inspects all images at once and prints them in the order of the arguments.
// An error of one image does not keep the others from being printed.
func runInspect(ctx context.Context, a *app, o inspectOptions, refs []string) error {
	switch {
	case o.raw:
		return missing(o.printRaw(ctx, a, refs[0]))
	case o.provenance:
		return o.printProvenance(ctx, a, refs[0])
	}
	if !o.digest && o.format == "" { // whose output has no names
		refs = a.eachImage(ctx, refs)
	}
	all := make([]inspected, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		wg.Go(func() {
			all[i] = inspected{ref: ref}
			all[i].report, all[i].err = inspect(ctx, a, o, ref)
		})
	}
	wg.Wait()
	o.width = terminalWidth(a.stdout)
	if o.html != "-" {
		if err := o.print(a.stdout, all); err != nil {
			return err
		}
	}
	return errors.Join(o.writeHTML(a.stdout, all), o.verdict(all))
}

// eachImage replaces a local place that holds several images by the names of these.
func (a *app) eachImage(ctx context.Context, refs []string) (all []string) {
	for _, ref := range refs {
		images := []string{ref}
		if source, name, err := a.places().Source(ref); err == nil && local.Is(ref) {
			_, err = source.Resolve(ctx, name)
			if several := (*local.SeveralError)(nil); errors.As(err, &several) && several.Ref == "" {
				images = several.Images
			}
		}
		all = append(all, images...)
	}
	return all
}

// inspect reads one image. If only the digest is asked for, without --platform and
// --require, it resolves the name (one HEAD request) and reads no manifest.
func inspect(ctx context.Context, a *app, o inspectOptions, ref string) (*manifest.Report, error) {
	source, name, err := a.places().Source(ref)
	if err != nil {
		return nil, err
	}
	if o.digest && o.options.Platform.OS == "" && len(o.required) == 0 && o.html == "" {
		d, err := source.Resolve(ctx, name)
		return &manifest.Report{Ref: ref, Digest: d.Digest}, missing(err)
	}
	return o.report(ctx, source, name, ref)
}

// report inspects the image name of source. ref is the image as the user wrote it, for
// the report and for errors. A missing platform is a usage error.
func (o *inspectOptions) report(ctx context.Context, source manifest.Source, name, ref string) (*manifest.Report, error) {
	r, err := manifest.Inspect(ctx, source, name, o.options)
	if p := (*manifest.PlatformError)(nil); errors.As(err, &p) {
		p.Ref = ref
		return nil, invalid(p)
	}
	if err != nil {
		return nil, missing(err)
	}
	r.Ref = ref
	return r, nil
}

// verdict joins the errors of all images, then those of --require. If some images could
// be read and others not, it is a [hint.PartialError].
func (o *inspectOptions) verdict(all []inspected) error {
	var errs, unmet []error
	for _, i := range all {
		if i.err != nil {
			errs = append(errs, i.err)
			continue
		}
		if err := o.met(i.report); err != nil {
			unmet = append(unmet, err)
		}
	}
	err := errors.Join(append(errs, unmet...)...)
	// Only images that could not be read count here: an unmet --require is a complete
	// answer.
	if len(errs) > 0 && len(errs) < len(all) {
		return hint.PartialError{Err: err}
	}
	return err
}

// met returns an error with the required platforms that r lacks, and those it has. A
// platform that the image writes in an unusual spelling does not count: a runtime that
// compares the text does not find it.
func (o *inspectOptions) met(r *manifest.Report) error {
	var have, lacking []ocispec.Platform
	var keys []string
	for _, p := range r.Platforms {
		if p.Written != "" {
			keys = append(keys, p.Platform+" (written "+p.Written+")")
			continue
		}
		keys = append(keys, p.Platform)
		if parsed, err := platform.Parse(p.Platform); err == nil {
			have = append(have, parsed)
		}
	}
	for _, want := range o.required {
		if _, ok := platform.Choose(want, have); !ok {
			lacking = append(lacking, want)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return &hint.Error{Err: &manifest.PlatformError{Ref: r.Ref, Want: lacking, Have: keys}}
}

// printRaw prints the manifest of an image, or of the one in it that --platform
// names.
func (o *inspectOptions) printRaw(ctx context.Context, a *app, ref string) error {
	source, name, err := a.places().Source(ref)
	if err != nil {
		return err
	}
	if o.options.Platform.OS != "" {
		r, err := o.report(ctx, source, name, ref)
		if err != nil {
			return err
		}
		// A single image needs no second look: report has checked its platform.
		if r.Index {
			at, err := places.Parse(ref)
			if err != nil {
				return err
			}
			if source, name, err = a.places().Source(at.ByDigest(r.Platforms[0].Digest).String()); err != nil {
				return err
			}
		}
	}
	c, err := source.Get(ctx, name)
	if err != nil {
		return err
	}
	raw, err := c.RawManifest()
	if err != nil {
		return err
	}
	return writeExact(a.stdout, raw)
}

// printProvenance prints the provenance of the index, or else of the first image that has one.
func (o *inspectOptions) printProvenance(ctx context.Context, a *app, ref string) error {
	source, name, err := a.places().Source(ref)
	if err != nil {
		return err
	}
	r, err := o.report(ctx, source, name, ref)
	if err != nil {
		return err
	}
	// Each tag of an image adds the provenance of its own commit, usually at the end.
	list := slices.Clone(r.Referrers)
	slices.Reverse(list)
	if n := len(slices.DeleteFunc(slices.Clone(list), func(a manifest.Attached) bool { return a.Kind != "provenance" })); n > 1 {
		a.log.WarnContext(ctx, fmt.Sprintf("%d statements refer to the index, and one of them is printed; mabuild verify --json compares all", n))
	}
	for _, p := range r.Platforms {
		list = append(list, p.Referrers...)
	}
	at, err := places.Parse(ref)
	if err != nil {
		return err
	}
	predicate, err := attest.FindProvenance(list, func(d v1.Hash) (manifest.Content, error) {
		return a.places().Get(ctx, at.ByDigest(d).String())
	})
	if errors.Is(err, attest.ErrNoProvenance) {
		return &hint.Error{Err: fmt.Errorf("%s: %w", plain(ref), err), Hint: "mabuild inspect --referrers " + plain(ref) + " lists what there is; mabuild push --provenance min adds it"}
	}
	if err != nil {
		return err
	}
	return writeExact(a.stdout, append(predicate, '\n'))
}

// writeHTML writes the report of --html, to stdout for "-". An image that could not be read
// is in it with its error.
func (o *inspectOptions) writeHTML(stdout io.Writer, all []inspected) error {
	if o.html == "" {
		return nil
	}
	var r web.Report
	rows := make([]web.Inspected, len(all))
	for i, one := range all {
		rows[i] = web.Inspected{Name: web.Link{Text: one.ref}, Report: one.report}
		view := web.View{Name: one.ref, Report: one.report}
		if one.err != nil {
			rows[i].Report, view.Report = nil, nil
			rows[i].State, rows[i].Problem = "not readable", one.err.Error()
			view.Problems = []string{one.err.Error()}
		} else if err := o.met(one.report); err != nil {
			view.Problems = []string{err.Error()}
		}
		r.Views = append(r.Views, view)
	}
	r.Matrix = web.NewMatrix("Image", rows)
	title := "Images"
	if len(all) == 1 {
		title = all[0].ref
	}
	page := web.Page{Kind: web.Inspect, Title: title, Data: r, Footer: "mabuild inspect, version " + strings.Trim(versionText(), "()")}
	write := func(w io.Writer) error { return web.Write(w, page) }
	if o.html == "-" {
		return write(stdout)
	}
	return outfile.Write(o.html, write)
}

// missing turns the error for an image that does not exist into a usage error.
func missing(err error) error {
	if errors.Is(err, manifest.ErrNotFound) {
		way := "check the path and the name"
		if errors.As(err, new(*registry.Error)) {
			way = "check the name and the tag; mabuild tags REPOSITORY lists the tags"
		}
		return &hint.Error{Kind: hint.Usage, Err: err, Hint: cmp.Or(hintOf(err), way)}
	}
	return err
}

// parseFormat parses a template that is executed with a report. A missing map key is an
// error rather than "<no value>", which a script would take for the value.
func parseFormat(format string) (*template.Template, error) {
	return template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json": jsonText, "join": strings.Join, "size": text.Size,
	}).Parse(format)
}
