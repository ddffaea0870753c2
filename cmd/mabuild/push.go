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
	pub := &publisher{client: a.client, log: a.log, bases: baselineIn(a.cache), builder: &build.Builder{
		Bases: a.places(), Work: work, Cache: a.cache, CacheKey: a.cacheKey(), Jobs: a.config.Jobs, Log: a.log, Within: a.config.Within(),
	}}
	if pub.sboms, err = a.sbomWriter(); err != nil {
		return err
	}
	programs, err := a.programs(ctx, pub.builder, o)
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.printPlans(ctx, pub, programs)
	}
	// done has an element for each program, which is nil if nothing of it was published.
	done, failed := pub.all(ctx, programs)
	if compiled(done) {
		a.grown.Store(true)
	}
	if a.config.MetadataFile != "" && slices.ContainsFunc(done, (*published).anywhere) {
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
func compiled(done []*published) bool {
	return slices.ContainsFunc(done, func(d *published) bool {
		return d != nil && slices.ContainsFunc(d.images, func(i build.Image) bool { return i.Binary.Path != "" })
	})
}

// programs resolves all programs that were asked for, with their destinations. All errors
// are reported at once, each with the program's name if there are several.
func (a *app) programs(ctx context.Context, b *build.Builder, o pushOptions) ([]program, error) {
	builds, err := a.selected(ctx, b, o)
	if err != nil {
		return nil, err
	}
	programs := make([]program, len(builds))
	errs := make([]error, len(builds))
	var group errgroup.Group
	group.SetLimit(2 * runtime.GOMAXPROCS(0)) // mostly waits for go list and git
	for i, one := range builds {
		group.Go(func() error {
			errs[i] = guard.Report(ctx, a.log, buildName(one), func() (err error) { programs[i], err = a.program(ctx, b, one, o); return err })
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
	return programs, errors.Join(distinct(programs), a.distinctFiles(programs))
}

// distinct rejects two programs that would move the same tag or write the same
// destination.
func distinct(programs []program) error {
	var errs []error
	owner, places := map[string]string{}, map[string]occupied{}
	for i, p := range programs {
		for _, ref := range p.refs {
			if other, taken := owner[ref]; taken {
				errs = append(errs, usage("use a different repository for each: --repo, or repo and id in the configuration file", "%s and %s have the same destination %s", other, p.spec.Name, ref))
			}
			owner[ref] = p.spec.Name
		}
		for _, o := range p.outputs {
			errs = append(errs, o.claim(&programs[i], places))
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

// program resolves one build and its destinations.
func (a *app) program(ctx context.Context, b *build.Builder, c config.Build, o pushOptions) (program, error) {
	spec, err := a.spec(ctx, c)
	if err != nil {
		return program{}, err
	}
	spec.AsMain, spec.Debug, spec.Compile.Unoptimized = o.asMain, o.debug, o.plain
	if spec, err = b.Resolve(ctx, spec); err != nil {
		return program{}, err
	}
	// The config of image-spec has no health check, so other runtimes ignore it.
	if spec.Config.Healthcheck != nil && !spec.Docker {
		a.log.WarnContext(ctx, "healthcheck: supported by Docker, and by podman only with --media-types docker")
	}
	p := program{spec: spec, noIndex: a.config.NoIndex}
	if p.noIndex && slices.ContainsFunc(c.Image.Annotations, func(text string) bool { of, _ := annotationOf(text); return of == "index" }) {
		a.log.WarnContext(ctx, "annotations of the index are ignored because of --no-index")
	}
	// How many platforms "all" means is only known after the base has been read.
	if p.noIndex && spec.All {
		return p, usage("select one platform with --platforms", "--no-index requires one platform, but all can be several")
	}
	if p.noIndex && len(spec.Platforms) != 1 {
		return p, usage("select one platform with --platforms", "--no-index requires one platform, got %d", len(spec.Platforms))
	}
	if o.push {
		if p.refs, err = a.refs(ctx, spec, c); err != nil {
			return p, err
		}
	}
	p.outputs, err = a.outputs(ctx, spec, c, o)
	return p, err
}

// printPlans prints what would be built and published. It gets the base images, so it
// reports missing platforms, but compiles nothing and writes nothing.
func (a *app) printPlans(ctx context.Context, pub *publisher, programs []program) error {
	var errs []error
	for _, p := range programs {
		plan, err := pub.builder.Plan(ctx, p.spec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var s strings.Builder
		fmt.Fprintf(&s, "%s (%s)\n", p.spec.Name, cmp.Or(p.spec.Package, "."))
		for _, base := range plan.Bases {
			from := base.Ref
			if base.Digest.Hex != "" && !strings.Contains(from, "@") {
				from += "@" + base.Digest.String()
			}
			fmt.Fprintf(&s, "  %-18s on %s\n", platform.Key(base.Platform), from)
		}
		for _, ref := range p.refs {
			fmt.Fprintf(&s, "  → %s\n", ref)
		}
		for _, o := range p.outputs {
			fmt.Fprintf(&s, "  → %s\n", o.text)
		}
		s.WriteString(pub.sboms.plan())
		if _, err := fmt.Fprint(a.stdout, s.String()); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
