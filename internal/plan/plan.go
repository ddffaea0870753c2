// Package plan turns the builds of a configuration into the plans that internal/publish
// carries out: a [Planner] selects the builds, converts each to a [build.Spec], and finds its
// tags and local destinations. Everything is checked before anything is built.
//
// Its errors are about what the user wrote, so their hints name flags and keys of the
// configuration file.
package plan

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/assembly"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/lockfile"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/smoke"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// A Planner makes the plans of one run of push or build. Its fields must not change while
// it is used.
type Planner struct {
	Config  *config.Config
	Builder *build.Builder
	Log     *slog.Logger
	Getenv  func(string) string

	AllowEnv []string       // variables that templates may read
	Builds   []config.Build // in place of Packages and Only; nil means these
	Packages []string       // PACKAGE arguments
	Only     []string       // ids of builds; empty means all
	Prebuilt string         // the file of --prebuilt, in place of Packages and of the builds of the file
	Files    []string       // SRC:DST of --file, for all builds
	AsMain   bool           // build module/path@version as the main module
	Debug    bool           // add the debugger
	Plain    bool           // compile without optimizations
	Lock     *lockfile.File // in place of its file
	// Confirm returns an error if a URL has another file than the one with a sha256 that this
	// machine has from another URL. nil asks nothing.
	Confirm func(ctx context.Context, url, sha256 string) error
	Push    bool // to registries as well
	Load    bool // into Docker or podman as well
	Nowhere bool // no destinations: the plans are not published

	Stdout   io.Writer // for the output "-"
	Terminal bool      // Stdout is a terminal

	adopted sync.Once // reports the use of KO_DOCKER_REPO

	builder   sync.Once
	builderIs string
}

// Plans resolves all programs that were asked for, with their destinations. All errors
// are reported at once, each with the program's name if there are several.
func (p *Planner) Plans(ctx context.Context) ([]publish.Plan, error) {
	if _, err := os.Stat(".ko.yaml"); err == nil && p.Config.File == "" {
		p.Log.WarnContext(ctx, ".ko.yaml is not read; convert it with mabuild config import -o .mabuild.yaml")
	}
	builds, err := p.selected(ctx)
	if err != nil {
		return nil, err
	}
	plans := make([]publish.Plan, len(builds))
	errs := make([]error, len(builds))
	var group errgroup.Group
	group.SetLimit(2 * runtime.GOMAXPROCS(0)) // mostly waits for go list and git
	for i, one := range builds {
		group.Go(func() error {
			errs[i] = guard.Report(ctx, p.Log, buildName(one), func() (err error) { plans[i], err = p.plan(ctx, one); return err })
			if len(builds) > 1 {
				errs[i] = hint.Named(buildName(one), errs[i])
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil; errors are in errs
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if p.Nowhere {
		return plans, nil
	}
	return plans, errors.Join(distinctTags(plans), distinctOutputs(plans), p.distinctFiles(plans))
}

// distinctTags rejects two programs that would move the same tag.
func distinctTags(plans []publish.Plan) error {
	var errs []error
	owner := map[string]string{}
	for _, one := range plans {
		for _, ref := range one.Tags {
			switch other, taken := owner[ref]; {
			case taken && other == one.Spec.Name:
				errs = append(errs, usage("remove one, or give each its own id in the configuration file", "two builds have the name %s, and so the same destination %s", other, ref))
			case taken:
				errs = append(errs, usage("use a different repository for each: --repo, or repo and id in the configuration file", "%s and %s have the same destination %s", other, one.Spec.Name, ref))
			}
			owner[ref] = one.Spec.Name
		}
	}
	return errors.Join(errs...)
}

// buildName returns the name of a build in errors, before the program is resolved.
func buildName(b config.Build) string {
	if b.ID != "" {
		return b.ID
	}
	return cmp.Or(b.Main, b.Prebuilt.Path, b.Prebuilt.URL)
}

// plan resolves one build and its destinations.
func (p *Planner) plan(ctx context.Context, c config.Build) (publish.Plan, error) {
	spec, err := p.spec(ctx, c)
	if err != nil {
		return publish.Plan{}, err
	}
	if spec, err = p.Builder.Resolve(ctx, spec); err != nil {
		return publish.Plan{}, err
	}
	p.kodata(ctx, c, spec)
	// The config of image-spec has no health check, so other runtimes ignore it.
	if spec.Config.Healthcheck != nil && !spec.Docker {
		p.Log.WarnContext(ctx, "healthcheck: supported by Docker, and by podman only with --media-types docker")
	}
	out := publish.Plan{Spec: spec, NoIndex: p.Config.NoIndex, Smoke: smoke.Test{
		Args: c.Smoke.Args, Expect: c.Smoke.Expect, Exit: c.Smoke.Exit, Timeout: time.Duration(c.Smoke.Timeout), Alive: time.Duration(c.Smoke.Alive),
	}}
	if err := out.Smoke.Check(); err != nil {
		return publish.Plan{}, err
	}
	if out.NoIndex && slices.ContainsFunc(c.Image.Annotations, func(text string) bool { of, _ := assembly.CutScope(text); return of == "index" }) {
		p.Log.WarnContext(ctx, "annotations of the index are ignored because of --no-index")
	}
	// How many platforms "all" means is only known after the base has been read.
	if out.NoIndex && spec.All {
		return out, usage("select one platform with --platforms", "--no-index requires one platform, but all can be several")
	}
	if out.NoIndex && len(spec.Platforms) != 1 {
		return out, usage("select one platform with --platforms", "--no-index requires one platform, got %d", len(spec.Platforms))
	}
	if p.Nowhere {
		return out, nil
	}
	if p.Push {
		if out.Tags, err = p.refs(ctx, spec, c); err != nil {
			return out, err
		}
	}
	if out.Outputs, err = p.outputs(ctx, spec, c); err != nil {
		return out, err
	}
	out.Spec.Platforms, out.Spec.All = p.needed(spec, out.Outputs)
	if p.Config.Provenance != provenanceNone {
		out.Origin = func(ctx context.Context) (attest.Origin, error) { return p.origin(ctx, out.Spec, c) }
	}
	return out, nil
}

// noSBOM is the value of --sbom for none.
const noSBOM = "none"

// SetSBOM sets what the configuration says about SBOMs. tool is the version of mabuild.
func SetSBOM(pub *publish.Publisher, c *config.Config, tool string) error {
	switch {
	// An explicit "none" turns SBOMs off without complaints about the other keys.
	case c.SBOM == noSBOM && (c.SBOMBase || c.SBOMDir != "") && c.Origin("sbom").Kind == yamlconf.FromDefault:
		return usage("add --sbom spdx or --sbom cyclonedx", "--sbom-base and --sbom-dir require --sbom")
	case c.SBOM == noSBOM:
		return nil
	case c.MediaTypes == "docker":
		return usage("omit one of them", "--sbom %s cannot be combined with --media-types docker: referrers require OCI media types", c.SBOM)
	}
	pub.SBOM, pub.SBOMBase, pub.SBOMDir, pub.Tool = attest.Format(c.SBOM), c.SBOMBase, c.SBOMDir, tool
	return nil
}

// distinctFiles rejects two programs whose SBOM files would have the same name.
func (p *Planner) distinctFiles(plans []publish.Plan) error {
	if p.Config.SBOM == noSBOM || p.Config.SBOMDir == "" {
		return nil
	}
	var errs []error
	seen := map[string]bool{}
	for _, one := range plans {
		if seen[one.Spec.Name] {
			errs = append(errs, usage("give each its own id", "two programs have the name %s, which --sbom-dir uses as the file name", one.Spec.Name))
		}
		seen[one.Spec.Name] = true
	}
	return errors.Join(errs...)
}

// usage returns an error about the command line or the configuration, with a hint.
func usage(way, format string, args ...any) error { return hint.New(hint.Usage, way, format, args...) }
