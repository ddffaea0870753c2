package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// pushOptions are the flags of push and build that have no key in the configuration.
type pushOptions struct {
	packages []string
	only     []string
	asMain   bool
	dryRun   bool
	verify   bool
	push     bool // to registries as well: the command is push
	tagOnly  bool
	debug    bool
	plain    bool // without optimizations
	refsFile string
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
printed to stdout.`,
		Example: `  mabuild push ./cmd/app --platforms linux/amd64,linux/arm64 -t ghcr.io/acme/app:v1
  mabuild push github.com/prometheus/node_exporter@v1.12.1 -t ghcr.io/acme/node-exporter:v1.12.1
  image=$(mabuild push ./cmd/app -t ghcr.io/acme/app:v1)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			return runPush(cmd, a, o)
		},
	}
	o.bind(cmd.Flags())
	return cmd
}

// newBuild returns the command build, which is push without registries.
func newBuild(a *app) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "build [PACKAGE…]",
		Short: "Build Go programs into OCI layouts, archives or a daemon",
		Long: `Build Go programs as push does, but write them to local destinations (-o). Without
-o, the image for this machine goes to the Docker daemon.`,
		Example: `  mabuild build ./cmd/app --platforms linux/amd64,linux/arm64 -o oci:./image
  mabuild build ./cmd/app -o docker-daemon:`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.packages = args
			return runPush(cmd, a, o)
		},
	}
	o.bind(cmd.Flags())
	return cmd
}

// bind adds the flags.
func (o *pushOptions) bind(flags *pflag.FlagSet) {
	config.BindBuild(flags)
	flags.BoolVar(&o.asMain, "as-main", false, "Build module/path@version as the main module, which applies its replace and exclude lines")
	flags.BoolVar(&o.dryRun, "dry-run", false, "Print what would be built and pushed, without doing it")
	flags.BoolVar(&o.verify, "verify", false, "Check that all content of existing images is present; re-upload what is missing")
	flags.StringSliceVar(&o.only, "only", nil, "Build only these `IDS` of .mabuild.yaml")
	flags.BoolVar(&o.debug, "debug", false, "Add the debugger Delve, which starts the program and listens on port 40000")
	flags.BoolVar(&o.plain, "disable-optimizations", false, "Compile for a debugger, without optimizations and with all symbols")
	bindKo(flags)
	if o.push {
		o.bindNames(flags)
	}
}

// runPush runs push or build: it loads the configuration, resolves the programs,
// publishes them and prints the results. Files for --metadata-file and --image-refs are
// written even if some programs failed, for those that were published. An error in
// writing them does not hide the results.
func runPush(cmd *cobra.Command, a *app, o pushOptions) error {
	if err := a.startWith(cmd, config.All); err != nil {
		return err
	}
	if err := errors.Join(a.named(cmd.Flags()), writable("--metadata-file", a.config.MetadataFile), writable("--image-refs", o.refsFile)); err != nil {
		return err
	}
	a.client.Verify = o.verify
	// This limits mabuild alone: the compilers are separate processes.
	limitMemory()
	ctx := cmd.Context()
	work, err := a.workDir(ctx)
	if err != nil {
		return err
	}
	pub := &publish.Publisher{Client: a.client, Log: a.log, Cache: a.recordCache(), Explain: func(err error, c manifest.Content) error {
		noIndex := ""
		if mediaType, err := c.MediaType(); err == nil && mediaType.IsIndex() {
			noIndex = "--no-index with one platform"
		}
		return invalidManifest(err, c, "--media-types docker", noIndex)
	}, Builder: &build.Builder{
		Bases: a.places(), Work: work, Cache: a.cache, CacheKey: a.cacheKey(), Jobs: a.config.Jobs, Log: a.log, Within: a.config.Within(),
	}}
	if err := a.setSBOM(pub); err != nil {
		return err
	}
	plans, err := a.plans(ctx, pub.Builder, o)
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.printPlans(ctx, pub, plans)
	}
	// done has an element for each program, which is nil if nothing of it was published.
	done, failed := publishAll(ctx, pub, plans)
	if compiled(done) {
		a.grown.Store(true)
	}
	if a.config.MetadataFile != "" && slices.ContainsFunc(done, (*publish.Result).Anywhere) {
		if err := writeMetadata(a.config.MetadataFile, done); err != nil {
			failed = errors.Join(failed, fmt.Errorf("metadata file: %w", err))
		}
	}
	if o.refsFile != "" {
		if err := writeRefs(o.refsFile, done); err != nil {
			failed = errors.Join(failed, fmt.Errorf("image refs: %w", err))
		}
	}
	a.close() // removes the progress rows before the result is printed
	return errors.Join(a.printResults(done, o.tagOnly), failed)
}

// compiled reports whether any program was compiled, in which case the cache may have
// grown by a lot.
func compiled(done []*publish.Result) bool {
	return slices.ContainsFunc(done, func(d *publish.Result) bool {
		return d != nil && slices.ContainsFunc(d.Images, func(i build.Image) bool { return i.Binary.Path != "" })
	})
}

// plans resolves all programs that were asked for, with their destinations. All errors
// are reported at once, each with the program's name if there are several.
func (a *app) plans(ctx context.Context, b *build.Builder, o pushOptions) ([]publish.Plan, error) {
	builds, err := a.selected(ctx, b, o)
	if err != nil {
		return nil, err
	}
	plans := make([]publish.Plan, len(builds))
	errs := make([]error, len(builds))
	var group errgroup.Group
	group.SetLimit(2 * runtime.GOMAXPROCS(0)) // mostly waits for go list and git
	for i, one := range builds {
		group.Go(func() error {
			errs[i] = guard.Report(ctx, a.log, buildName(one), func() (err error) { plans[i], err = a.plan(ctx, b, one, o); return err })
			if len(builds) > 1 {
				errs[i] = named(buildName(one), errs[i])
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errors are in errs
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return plans, errors.Join(distinctTags(plans), distinctOutputs(plans), a.distinctFiles(plans))
}

// distinctTags rejects two programs that would move the same tag.
func distinctTags(plans []publish.Plan) error {
	var errs []error
	owner := map[string]string{}
	for _, p := range plans {
		for _, ref := range p.Tags {
			if other, taken := owner[ref]; taken {
				errs = append(errs, usage("use a different repository for each: --repo, or repo and id in the configuration file", "%s and %s have the same destination %s", other, p.Spec.Name, ref))
			}
			owner[ref] = p.Spec.Name
		}
	}
	return errors.Join(errs...)
}

// buildName returns the name of a build in errors, before the program is resolved.
func buildName(b config.Build) string {
	if b.ID != "" {
		return b.ID
	}
	return b.Main
}

// plan resolves one build and its destinations.
func (a *app) plan(ctx context.Context, b *build.Builder, c config.Build, o pushOptions) (publish.Plan, error) {
	spec, err := a.spec(ctx, c, o)
	if err != nil {
		return publish.Plan{}, err
	}
	if spec, err = b.Resolve(ctx, spec); err != nil {
		return publish.Plan{}, err
	}
	// The config of image-spec has no health check, so other runtimes ignore it.
	if spec.Config.Healthcheck != nil && !spec.Docker {
		a.log.WarnContext(ctx, "healthcheck: supported by Docker, and by podman only with --media-types docker")
	}
	p := publish.Plan{Spec: spec, NoIndex: a.config.NoIndex}
	if p.NoIndex && slices.ContainsFunc(c.Image.Annotations, func(text string) bool { of, _ := annotationOf(text); return of == "index" }) {
		a.log.WarnContext(ctx, "annotations of the index are ignored because of --no-index")
	}
	// How many platforms "all" means is only known after the base has been read.
	if p.NoIndex && spec.All {
		return p, usage("select one platform with --platforms", "--no-index requires one platform, but all can be several")
	}
	if p.NoIndex && len(spec.Platforms) != 1 {
		return p, usage("select one platform with --platforms", "--no-index requires one platform, got %d", len(spec.Platforms))
	}
	if o.push {
		if p.Tags, err = a.refs(ctx, spec, c); err != nil {
			return p, err
		}
	}
	p.Outputs, err = a.outputs(ctx, spec, c, o)
	return p, err
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
		fmt.Fprintf(&s, "%s (%s)\n", p.Spec.Name, cmp.Or(packageOf(p.Spec).Package, "."))
		for _, base := range plan.Bases {
			from := base.Ref
			if base.Digest.Hex != "" && !strings.Contains(from, "@") {
				from += "@" + base.Digest.String()
			}
			fmt.Fprintf(&s, "  %-18s on %s\n", platform.Key(base.Platform), from)
		}
		for _, ref := range p.Tags {
			fmt.Fprintf(&s, "  → %s\n", ref)
		}
		for _, o := range p.Outputs {
			fmt.Fprintf(&s, "  → %s\n", o.Text)
		}
		s.WriteString(plannedSBOM(pub))
		if _, err := fmt.Fprint(a.stdout, s.String()); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
