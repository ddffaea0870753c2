package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/progress"
	"github.com/mabuild/mabuild/internal/serve"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// mirrorOptions are the flags of mirror.
type mirrorOptions struct {
	file      string
	only      []string
	template  string
	platforms []string
	optional  bool
	referrers bool
	backup    string
	minAge    ageFlag

	missing, verify, dryRun bool
	report                  string
	watch                   bool
	listen                  string
	listenHosts             []string
	reserve                 int
	trust                   config.Trust // extends what the file may set
	shard                   string
	shards                  int
}

// ofEntry are the flags that correspond to a key of an entry. They are rejected with -f,
// where it would be unclear which entries they apply to.
var ofEntry = []string{"template", "platforms", "optional", "referrers", "backup", "min-age"}

// newMirror returns the command mirror.
func newMirror(a *app) *cobra.Command {
	var o mirrorOptions
	cmd := &cobra.Command{
		Use:     "mirror SOURCE TARGET | --template NAME TARGET | -f FILE",
		Aliases: []string{"copy", "cp"},
		Short:   "Copy images to your registry, once or on a schedule",
		Long: `Copy an image or an index without changing its digest, create an index of images
whose names differ by platform, or copy everything that a file lists. With --watch
the file's schedules apply.

SOURCE and TARGET are images in registries, or oci:DIR, oci-archive:FILE or
docker-archive:FILE, which holds one image. Content that the target already has
is not sent again: an unchanged image costs one HEAD request at each end.
--platforms copies only some platforms of an index, which changes its digest.
Nothing is deleted at the target, and its tag is updated last.

The outcome of each image is printed to stdout.`,
		Example: `  mabuild mirror quay.io/coreos/flannel:v0.28.0 registry.local/flannel:v0.28.0
  mabuild mirror --template gcr.io/google_containers/kube-proxy-ARCH:v1.18.8 \
    --platforms linux/amd64,linux/arm registry.local/kube-proxy:v1.18.8
  mabuild mirror quay.io/coreos/flannel:v0.28.0 oci-archive:flannel.tar
  mabuild mirror -f mirror.yaml --dry-run
  mabuild mirror -f mirror.yaml --watch --listen :8080`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			if err := o.check(cmd, args); err != nil {
				return err
			}
			o.trust = config.TrustOf(cmd.Flags(), os.LookupEnv)
			return runMirror(cmd.Context(), a, o, args)
		},
	}
	o.bind(cmd.Flags())
	return cmd
}

// bind adds the flags.
func (o *mirrorOptions) bind(f *pflag.FlagSet) {
	f.StringVarP(&o.file, "file", "f", "", "Copy the images that this `FILE` lists (docs/mirror.md)")
	f.StringSliceVar(&o.only, "only", nil, "Copy only these `ENTRIES` of the file")
	f.StringVar(&o.template, "template", "", "Use `NAME` as the images' name, with OS, ARCH and VARIANT as placeholders")
	alike(f, map[string]string{"platform": "platforms"})
	f.StringSliceVar(&o.platforms, "platforms", nil, "Keep only these `PLATFORMS`, or use them in the template")
	f.BoolVar(&o.optional, "optional", false, "Skip missing platforms with a warning")
	f.BoolVar(&o.referrers, "referrers", false, "Also copy signatures, SBOMs and provenance of the index and its images")
	f.StringVar(&o.backup, "backup", "", "Keep the target's previous image under this `TAG`, for example {{.Tag}}-{{.Date}}")
	f.Var(&o.minAge, "min-age", "Skip images younger than this `DURATION`, for example 72h or 3d")
	f.BoolVar(&o.missing, "missing", false, "Copy only tags that are missing at the target")
	f.BoolVar(&o.verify, "verify", false, "Check that all images of existing tags are present, and signed where the file has a key; re-upload missing ones")
	f.BoolVar(&o.dryRun, "dry-run", false, "Print what would be copied, the maximum size and the reason; send nothing")
	f.StringVar(&o.report, "report", "", "Write the outcome of each image to this `FILE` as JSON")
	f.BoolVar(&o.watch, "watch", false, "Keep running on the file's schedules")
	f.StringVar(&o.listen, "listen", "", "Serve a page, /status.json, /metrics and /healthz at this `ADDRESS` with --watch")
	bindShard(f, &o.shard, &o.shards)
	config.BindTrust(f)
	config.BindSecrets(f)
	f.StringSliceVar(&o.listenHosts, "listen-host", nil, "Also accept this host `NAME` in requests to --listen; repeatable")
	f.IntVar(&o.reserve, "quota-reserve", 0, "Leave this `NUMBER` of a registry's pull quota unused")
}

// check rejects invalid combinations of flags and arguments, all at once.
func (o *mirrorOptions) check(cmd *cobra.Command, args []string) error {
	given := func(names ...string) (list []string) {
		for _, name := range names {
			if cmd.Flags().Changed(name) {
				list = append(list, "--"+name)
			}
		}
		return list
	}
	errs := []error{valued(cmd, "file", "only", "template", "platforms", "backup", "report", "listen")}
	if o.file == "" {
		// With a template, the source is the flag and only the target is an argument.
		want := 2
		if o.template != "" {
			want = 1
		}
		if len(args) != want {
			way := cmd.CommandPath() + " --help shows examples"
			switch {
			case len(args) == 1 && strings.HasSuffix(args[0], ".yaml"):
				way = "mabuild mirror -f " + args[0]
			case len(args) == 1 && o.template == "":
				way = "mabuild mirror " + args[0] + " HOST/REPOSITORY, or oci-archive:FILE for a file"
			case len(args) > 2:
				way = "run it once for each target, or list them in a file: mabuild config init mirror"
			}
			errs = append(errs, usage(way, "mirror requires SOURCE and TARGET, --template NAME and TARGET, or -f FILE"))
		}
		if list := given("only", "watch", "listen", "shard"); len(list) > 0 {
			errs = append(errs, usage("add -f FILE; mabuild config init mirror writes a first file", "%s: requires -f FILE", strings.Join(list, " ")))
		}
	} else {
		if len(args) > 0 {
			errs = append(errs, usage("omit the arguments or -f", "-f FILE cannot be combined with the argument %q", args[0]))
		}
		if list := given(ofEntry...); len(list) > 0 {
			errs = append(errs, usage("set the key of the same name in the file", "%s: cannot be combined with -f FILE", strings.Join(list, " ")))
		}
	}
	_, err := parseShard(o.shard, o.shards, os.Getenv)
	errs = append(errs, err, writable("--report", o.report))
	if o.reserve < 0 {
		errs = append(errs, usage("for example --quota-reserve 20", "--quota-reserve %d: must be 0 or more", o.reserve))
	}
	if o.watch && o.file == "-" {
		errs = append(errs, usage("use a regular file", "--watch reads the file again, which is not possible with stdin"))
	}
	if o.watch && o.dryRun {
		errs = append(errs, usage("omit one of them", "--dry-run and --watch cannot be used together"))
	}
	if o.listen != "" && !o.watch {
		errs = append(errs, usage("add --watch", "--listen requires --watch"))
	}
	if len(o.listenHosts) > 0 && o.listen == "" {
		errs = append(errs, usage("add --listen ADDRESS", "--listen-host requires --listen"))
	}
	if _, err := serve.ParseHosts(o.listenHosts); err != nil {
		errs = append(errs, usage("for example --listen-host mirror.example", "--listen-host: %s", err))
	}
	if o.template != "" && len(o.platforms) == 0 && o.file == "" {
		errs = append(errs, usage("for example --platforms linux/amd64,linux/arm64", "--template requires --platforms"))
	}
	return errors.Join(errs...)
}

// entry returns the entry that flags and arguments describe. Templates are expanded once
// with empty values, so that an error in them comes before the first request.
func (o *mirrorOptions) entry(args []string) (*mirror.Entry, error) {
	target := args[len(args)-1]
	e := &mirror.Entry{
		Name: target, Template: o.template, Targets: []string{target},
		Optional: o.optional, Referrers: o.referrers, Backup: o.backup, MinAge: o.minAge.d,
	}
	var errs []error
	for _, text := range []string{target, o.backup} {
		if _, err := (mirror.Names{}).Expand(text); err != nil {
			errs = append(errs, err)
		}
	}
	if o.template == "" {
		e.Image = args[0]
		if errs = append(errs, places.CheckImage(e.Image)); e.Image == target && len(o.platforms) == 0 {
			errs = append(errs, usage("use another TARGET, or select platforms with --platforms", "%s is both source and target", target))
		}
	} else if platform.Fill(o.template, "linux/amd64/v1") == o.template {
		errs = append(errs, usage("write ARCH in place of the architecture", "template %q gives the same image for every platform", o.template))
	}
	// Each platform keeps its spelling, since a template uses it; a selection compares
	// parsed ones.
	if len(o.platforms) > 0 {
		wanted, err := platform.ParseList(o.platforms)
		errs = append(errs, err)
		for i, typed := range o.platforms {
			declared, err := platform.Declared(strings.TrimSpace(typed))
			if err == nil && i < len(wanted) {
				parsed, _ := platform.Parse(strings.TrimSpace(typed))
				e.Platforms = append(e.Platforms, mirror.Platform{Declared: declared, Wanted: parsed, Typed: strings.TrimSpace(typed)})
			}
		}
	}
	switch {
	case local.Is(target):
		_, err := places.Store{}.Target(target)
		errs = append(errs, err)
	case strings.Contains(target, "@"):
		errs = append(errs, usage("write repository:tag", "target %q has a digest, but the copied image determines the digest", target))
	case !strings.Contains(target, "{{"):
		errs = append(errs, places.CheckReference(target))
	}
	return e, errors.Join(errs...)
}

var _ mirror.Store = places.Store{}

// runMirror copies one image from the command line, or runs the plan of a file.
func runMirror(ctx context.Context, a *app, o mirrorOptions, args []string) error {
	if o.file != "" {
		return runPlan(ctx, a, o)
	}
	e, err := o.entry(args)
	if err != nil {
		return err
	}
	a.client.QuotaReserve = o.reserve
	err = finishMirror(a, o, o.runOnce(ctx, a, a.places(), nil, []*mirror.Entry{e}))
	// A repository is not copied as a whole: without a tag, its tag latest is.
	if at := imageref.Cut(e.Image); errors.Is(err, manifest.ErrNotFound) && e.Image != "" && !local.Is(e.Image) && at.Tag+at.Digest == "" {
		return &hint.Error{Kind: hint.Usage, Err: err, Hint: e.Image + " means " + e.Image + ":latest; mabuild tags " + e.Image + " lists the tags, and mabuild mirror -f FILE copies several (mabuild config init mirror writes one)"}
	}
	return err
}

// runOnce runs entries once and returns the report. claims records which entry has which
// target, so that two entries with the same target are an error even in separate rounds;
// nil means within this run alone. The builder is only made if an entry builds a program,
// and its files are removed at the end.
func (o *mirrorOptions) runOnce(ctx context.Context, a *app, s places.Store, claims *mirror.Claims, entries []*mirror.Entry) *mirror.Report {
	builder, end := a.builders(ctx, s)
	defer end()
	r := o.runner(a, s)
	r.Claims = claims
	r.Programs = func(e *mirror.Entry) mirror.Programs { return &programs{app: a, entry: e, builder: builder} }
	return r.Run(ctx, entries)
}

// runner returns the runner of one run. Its caller adds the programs to build. The
// client's log is wrapped so that the runner can count the bytes that were sent.
func (o *mirrorOptions) runner(a *app, s places.Store) *mirror.Runner {
	r := &mirror.Runner{
		Skip: func(place string) bool {
			mine, err := parseShard(o.shard, o.shards, os.Getenv) // check has parsed it, too
			return err == nil && mine.skips(place)
		},
		Store: s, Log: a.log, DryRun: o.dryRun, Verify: o.verify, Missing: o.missing, Signed: signedBy,
		Task: func(ctx context.Context, image string) context.Context {
			return progress.WithTask(ctx, progress.Task{Image: image})
		},
	}
	s.Registry.Log = slog.New(mirror.Metered(a.log.Handler()))
	// A nil *cache.Cache in the interface would not compare equal to nil.
	if state := a.recordCache(); state != nil {
		r.State = state
	}
	return r
}

// finishMirror writes the report file, prints the result and returns the error of the
// run. The progress display ends before the result is printed.
func finishMirror(a *app, o mirrorOptions, report *mirror.Report) error {
	err, some := report.Err()
	if err != nil && some {
		err = hint.PartialError{Err: err}
	}
	err = errors.Join(err, o.writeReport(report))
	a.close() // removes the progress rows first
	return cmp.Or(printMirror(a.stdout, report, o.file != "" || o.dryRun), err)
}

// writeReport writes the outcome of each image to the file of --report as JSON.
func (o mirrorOptions) writeReport(report *mirror.Report) error {
	if o.report == "" {
		return nil
	}
	var b bytes.Buffer
	if err := report.Write(&b); err != nil {
		return err
	}
	if err := replaceFile(o.report, b.Bytes()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
