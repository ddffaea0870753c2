package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/plan"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/smoke"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// pushOptions are the flags of push and build that have no key in the configuration.
type pushOptions struct {
	packages []string
	only     []string
	files    []string
	prebuilt string // the file of the program
	asMain   bool
	dryRun   bool
	verify   bool
	push     bool // to registries as well: the command is push
	tagOnly  bool
	debug    bool
	plain    bool // without optimizations
	load     bool // into Docker or podman as well
	alone    bool // without build records of other machines
	require  bool // a build record for each program
	strict   bool // a build record with another layer is an error
	proves   bool // nothing that other machines have compiled is used
	nowhere  bool // no destinations
	refsFile string
	summary  string

	// choose returns the builds in place of packages and only; nil uses these.
	choose func(*config.Config) ([]config.Build, error)
	// each, if set, is called with the position and the result of each build as soon as it
	// is published. then is called with all results in place of printing them.
	each func(int, *publish.Result)
	then func(done []*publish.Result) error
	one  bool // there must be one program
}

// newPush returns the command push.
func newPush(a *app) *cobra.Command {
	o := pushOptions{push: true}
	cmd := &cobra.Command{
		Use:   "push [PACKAGE…]",
		Short: "Build Go programs and push each as one multi-platform image",
		Long: `Build Go programs and push each as one multi-platform image. All platforms share
the same tags.

PACKAGE is a directory, an import path of the module or workspace, or
module/path@version. Without PACKAGE, mabuild builds all programs in .mabuild.yaml,
or the package in the working directory. If one platform fails, the program is not
published. For each program and repository, one line with repository@digest is
printed to stdout.

With --prebuilt, nothing is compiled: the program of each platform is a file, in any
language.`,
		Example: `  mabuild push ./cmd/app --platforms linux/amd64,linux/arm64 -t ghcr.io/acme/app:v1
  mabuild push github.com/prometheus/node_exporter@v1.12.1 -t ghcr.io/acme/node-exporter:v1.12.1
  mabuild push --prebuilt 'dist/{{.OS}}_{{.Arch}}/app' -t ghcr.io/acme/app:v1
  image=$(mabuild push ./cmd/app -t ghcr.io/acme/app:v1)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			return runPush(cmd, a, o)
		},
	}
	o.bind(cmd.Flags())
	o.bindPrebuilt(cmd.Flags())
	return cmd
}

// newBuild returns the command build, which is push without registries.
func newBuild(a *app) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "build [PACKAGE…]",
		Short: "Build Go programs into OCI layouts, archives or a daemon",
		Long: `Build Go programs as push does, but write them to local destinations (-o). Without
-o, the image for this machine goes to Docker, or to podman if Docker does not answer,
and its name there is printed.`,
		Example: `  docker run --rm $(mabuild build ./cmd/app)
  mabuild build ./cmd/app --platforms linux/amd64,linux/arm64 -o oci:./image`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			return runPush(cmd, a, o)
		},
	}
	o.bind(cmd.Flags())
	o.bindPrebuilt(cmd.Flags())
	return cmd
}

// bind adds the flags.
func (o *pushOptions) bind(flags *pflag.FlagSet) {
	config.BindBuild(flags)
	config.BindVariables(flags)
	flags.Lookup("smoke").NoOptDefVal = smoke.Auto
	flags.BoolVar(&o.asMain, "as-main", false, "Build module/path@version as the main module, which applies its replace and exclude lines")
	flags.StringSliceVar(&o.only, "only", nil, "Build only these `IDS` of .mabuild.yaml")
	flags.StringArrayVar(&o.files, "file", nil, "Copy a file or directory into the image, `SRC:DST`; in addition to files of .mabuild.yaml")
	flags.BoolVar(&o.plain, "disable-optimizations", false, "Compile for a debugger, without optimizations and with all symbols")
	flags.BoolVar(&o.strict, "strict", false, "Fail, and move no tag, if a program is compiled to another layer than its build record has")
	if o.nowhere {
		return
	}
	flags.BoolVar(&o.dryRun, "dry-run", false, "Print what would be built and pushed, without doing it")
	flags.BoolVar(&o.alone, "no-cache-repo", false, "Ignore --cache-repo: compile what this machine has not compiled")
	flags.BoolVar(&o.require, "require-cache", false, "Fail if a program that has a key is not in --cache-repo, instead of compiling it")
	flags.BoolVar(&o.verify, "verify", false, "Check that all content of existing images is present; re-upload what is missing")
	flags.StringVar(&o.summary, "summary", "", "Write a Markdown table of platforms, sizes and digests to `FILE`, for the summary of a CI job")
	flags.BoolVar(&o.debug, "debug", false, "Add the debugger Delve, which starts the program and listens on port 40000")
	if !o.load {
		flags.BoolVar(&o.load, "load", false, "Also load the image for this machine into Docker or podman; the same as -o docker-daemon:")
	}
	bindKo(flags)
	if o.push {
		o.bindNames(flags)
	}
}

// bindPrebuilt adds the flag for a program that is not compiled.
func (o *pushOptions) bindPrebuilt(flags *pflag.FlagSet) {
	flags.StringVar(&o.prebuilt, "prebuilt", "", "Use a program that exists already, in a `FILE` for each platform: dist/{{.OS}}_{{.Arch}}/app")
}

// runPush runs push or build: it loads the configuration, resolves the programs,
// publishes them and prints the results. Files for --metadata-file, --summary and
// --image-refs are written even if some programs failed, for those that were published. An error in
// writing them does not hide the results.
func runPush(cmd *cobra.Command, a *app, o pushOptions) error {
	if err := a.startWith(cmd, config.All); err != nil {
		return err
	}
	if err := errors.Join(a.named(cmd.Flags()), writable("--metadata-file", a.config.MetadataFile), writable("--image-refs", o.refsFile), writable("--summary", o.summary)); err != nil {
		return err
	}
	a.client.Verify = o.verify
	ctx := cmd.Context()
	pub, planner, err := a.publisher(cmd, o)
	if err != nil {
		return err
	}
	plans, err := planner.Plans(ctx)
	if err != nil {
		return err
	}
	if o.one && len(plans) != 1 {
		return usage("add --only ID, or name a PACKAGE", "run takes one program, got %d", len(plans))
	}
	if err := a.attest(ctx, pub, plans); err != nil {
		return err
	}
	if err := a.smoke(ctx, pub, plans); err != nil {
		return err
	}
	if o.dryRun {
		return a.printPlans(ctx, pub, plans)
	}
	began := time.Now()
	// done has an element for each program, which is nil if nothing of it was published.
	done, failed := publishAll(ctx, pub, plans, o.each)
	if failed != nil {
		a.outcome = outcome(plans, done)
	} else {
		a.log.InfoContext(ctx, totals(done, time.Since(began)))
	}
	if compiled(done) {
		a.grown.Store(true)
	}
	if a.config.MetadataFile != "" && slices.ContainsFunc(done, (*publish.Result).Anywhere) {
		if err := replaceWith(a.config.MetadataFile, publish.Metadata, done); err != nil {
			failed = errors.Join(failed, fmt.Errorf("metadata file: %w", err))
		}
	}
	if o.refsFile != "" {
		if err := replaceWith(o.refsFile, publish.References, done); err != nil {
			failed = errors.Join(failed, fmt.Errorf("image refs: %w", err))
		}
	}
	if o.summary != "" {
		if err := replaceWith(o.summary, summary, done); err != nil {
			failed = errors.Join(failed, fmt.Errorf("summary: %w", err))
		}
	}
	a.close() // removes the progress rows before the result is printed
	if o.then != nil {
		if failed != nil {
			return failed
		}
		return o.then(done)
	}
	return errors.Join(a.printResults(done, o.tagOnly), failed)
}

// smoke lets pub start the programs of plans before tags move, if that is asked for. That this
// machine cannot run one of them is an error before anything is compiled.
func (a *app) smoke(ctx context.Context, pub *publish.Publisher, plans []publish.Plan) error {
	if a.config.SmokeRun == config.SmokeOff {
		return nil
	}
	skip, err := platform.ParseList(a.config.SmokeSkip)
	if err != nil {
		return err
	}
	pub.Smoke = &smoke.Runner{Mode: a.config.SmokeRun, Dir: a.workDir, Skip: skip, Cache: a.recordCache(), Log: a.log}
	var all []ocispec.Platform
	for _, p := range plans {
		if !p.Spec.All {
			all = append(all, p.Spec.Platforms...)
			continue
		}
		planned, err := pub.Builder.Plan(ctx, p.Spec)
		if err != nil {
			return err
		}
		for _, base := range planned.Bases {
			all = append(all, base.Platform)
		}
	}
	return pub.Smoke.Check(ctx, all)
}

// publisher returns what makes and carries out the plans of a command that builds.
func (a *app) publisher(cmd *cobra.Command, o pushOptions) (*publish.Publisher, *plan.Planner, error) {
	if err := valued(cmd, "only", "prebuilt", "base", "repo", "sign", "summary", "shard"); err != nil {
		return nil, nil, err
	}
	if _, err := os.UserCacheDir(); err != nil && os.Getenv("GOCACHE") == "" {
		return nil, nil, usage("set HOME, or GOCACHE and MABUILD_CACHE", "the go command has no cache: %s", err)
	}
	// This limits mabuild alone: the compilers are separate processes.
	limitMemory(memoryOfPush)
	ctx := cmd.Context()
	work, err := a.workDir(ctx)
	if err != nil {
		return nil, nil, err
	}
	files, err := a.downloads(ctx)
	if err != nil {
		return nil, nil, err
	}
	pub := &publish.Publisher{Client: a.client, Log: a.log, Cache: a.recordCache(), Explain: func(err error, c manifest.Content) error {
		noIndex := ""
		if mediaType, err := c.MediaType(); err == nil && mediaType.IsIndex() {
			noIndex = "--no-index with one platform"
		}
		return invalidManifest(err, c, "--media-types docker", noIndex)
	}, Builder: &build.Builder{
		Bases: a.places(), Work: work, Cache: a.cache, CacheKey: a.cacheKey(), Jobs: a.config.Jobs, Log: a.log, Within: a.config.Within(),
		Download: files.Get,
	}}
	if pub.Records, err = a.records(o.alone, o.require, work); err != nil {
		return nil, nil, err
	}
	pub.Strict = o.strict
	if pub.Builder.Recalls = pub.Records != nil; pub.Builder.Recalls && !o.proves {
		pub.Builder.GoCache = pub.Records.GoCache
	}
	plan.Attested(a.config, os.Getenv)
	tool := strings.Trim(versionText(), "()")
	if err := errors.Join(plan.SetSBOM(pub, a.config, tool), plan.SetAttestations(pub, a.config, tool, os.Getenv)); err != nil {
		return nil, nil, err
	}
	planner := &plan.Planner{
		Config: a.config, Builder: pub.Builder, Log: a.log, Getenv: os.Getenv, Packages: o.packages, Only: o.only, Prebuilt: o.prebuilt, Files: o.files,
		AllowEnv: config.TrustOf(cmd.Flags(), os.LookupEnv).Variables,
		AsMain:   o.asMain, Debug: o.debug, Plain: o.plain, Push: o.push, Load: o.load, Nowhere: o.nowhere, Stdout: a.stdout, Terminal: isTerminal(a.stdout), Confirm: files.Confirm,
	}
	if o.choose != nil {
		if planner.Builds, err = o.choose(a.config); err != nil {
			return nil, nil, err
		}
	}
	return pub, planner, nil
}

// compiled reports whether any program was compiled, in which case the cache may have
// grown by a lot.
func compiled(done []*publish.Result) bool {
	return slices.ContainsFunc(done, func(d *publish.Result) bool {
		return d != nil && slices.ContainsFunc(d.Images, func(i build.Image) bool { return i.Binary.Path != "" })
	})
}

// printPlans prints what would be built and published. It gets the base images, so it
// reports missing platforms, but compiles nothing and writes nothing.
func (a *app) printPlans(ctx context.Context, pub *publish.Publisher, plans []publish.Plan) error {
	var errs []error
	for _, p := range plans {
		plan, err := pub.Builder.Plan(ctx, p.Spec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var s strings.Builder
		fmt.Fprintf(&s, "%s (%s)\n", p.Spec.Name, sourceOf(p.Spec))
		for _, base := range plan.Bases {
			from := base.Ref
			if base.Digest.Hex != "" && !strings.Contains(from, "@") {
				from += "@" + base.Digest.String()
			}
			fmt.Fprintf(&s, "  %-18s on %s\n", platform.Key(base.Platform), from)
		}
		for _, ref := range p.Tags {
			fmt.Fprintf(&s, "  → %s\n", complete(ref))
		}
		for _, o := range p.Outputs {
			fmt.Fprintf(&s, "  → %s as %s\n", o.Text, o.Ref)
		}
		s.WriteString(plannedSBOM(pub) + plannedSmoke(ctx, pub) + plannedAttestations(a.config))
		if _, err := fmt.Fprint(a.stdout, s.String()); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// complete returns a reference with its registry and its tag, also if these are the usual ones.
func complete(ref string) string {
	of := imageref.Cut(ref)
	if !of.Named() {
		of = of.Canonical()
	}
	if of.Digest == "" {
		of.Tag = cmp.Or(of.Tag, "latest")
	}
	return of.String()
}

// sourceOf returns what the program of a spec is made of, as the user wrote it.
func sourceOf(s build.Spec) string {
	if p, ok := s.Program.(build.Prebuilt); ok {
		return cmp.Or(p.Path, "downloads of mabuild.lock")
	}
	p, _ := s.Program.(build.GoPackage)
	return cmp.Or(p.Package, ".")
}

// plannedSmoke returns the line of a dry run about programs that are started, or "".
func plannedSmoke(ctx context.Context, pub *publish.Publisher) string {
	if pub.Smoke == nil {
		return ""
	}
	return "  ? start each program, " + pub.Smoke.How(ctx) + "\n"
}

// plannedSBOM returns the line of a dry run about SBOMs, or "".
func plannedSBOM(pub *publish.Publisher) string {
	if pub.SBOM == "" {
		return ""
	}
	text := "  + SBOM of each platform, " + string(pub.SBOM)
	if pub.SBOMBase {
		text += ", with the base's packages"
	}
	if pub.SBOMDir != "" {
		text += ", also in " + pub.SBOMDir
	}
	return text + "\n"
}
