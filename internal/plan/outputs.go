package plan

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// outputs returns the local destinations of a program. build without -o writes to the
// Docker daemon, or to podman.
func (p *Planner) outputs(ctx context.Context, spec build.Spec, c config.Build) ([]publish.Output, error) {
	const daemon = local.FormDockerDaemon + ":"
	wanted := p.Config.Output
	if p.Load && !slices.ContainsFunc(wanted, func(text string) bool { return strings.HasPrefix(text, daemon) }) {
		wanted = append(slices.Clone(wanted), daemon)
	}
	if len(wanted) == 0 && !p.Push {
		if err := (local.Place{Form: local.FormDockerDaemon}).Check(ctx); err != nil {
			return nil, usage("use -o oci:DIR, -o oci-archive:FILE, -o docker-archive:FILE or -o containerd:", "build requires a destination: %s", err)
		}
		wanted = []string{daemon}
	}
	tag, err := localTag(spec, c)
	if err != nil {
		return nil, err
	}
	list := make([]publish.Output, len(wanted))
	var errs []error
	for i, text := range wanted {
		list[i], err = p.newOutput(ctx, text, tag, spec)
		errs = append(errs, err)
	}
	return list, errors.Join(errs...)
}

// localTag returns the image's name in a local destination: the first tag, with the
// program's name if the tag has no repository. No registry is added.
func localTag(spec build.Spec, c config.Build) (string, error) {
	if len(c.Tags) == 0 {
		return spec.Name + ":latest", nil
	}
	repo, tag, err := fillTag(spec.Vars, c.Tags[0])
	if repo == "" {
		repo = spec.Name
	}
	return joinTag(repo, tag), err
}

// newOutput opens one destination. All checks happen here, before the build: the form,
// the platform of a destination that holds only one, compression, and whether it can be
// written. Docker's formats hold one image; without platform= it is that of this machine,
// for linux.
func (p *Planner) newOutput(ctx context.Context, text, tag string, spec build.Spec) (publish.Output, error) {
	place, err := places.ParseLocal(text)
	if err != nil {
		return publish.Output{}, &hint.Error{Kind: hint.Usage, Err: err}
	}
	place.Out = p.Stdout
	sink, err := place.Sink()
	if err != nil {
		return publish.Output{}, &hint.Error{Kind: hint.Usage, Err: err}
	}
	o := publish.Output{Text: text, Place: place, Sink: sink, Ref: cmp.Or(place.Name, tag)}
	switch place.Form {
	case local.FormDockerArchive, local.FormDockerDaemon:
		if spec.Compression.Format == build.Zstd {
			return publish.Output{}, usage("use gzip", "--compression zstd: Docker's image format does not support zstd, so %s cannot be written", text)
		}
		// Docker is assumed to run Linux containers for this machine's architecture.
		if o.Platform = place.Platform; o.Platform.OS == "" {
			o.Platform = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		}
		if _, ok := platform.Choose(o.Platform, spec.Platforms); !ok && !spec.All {
			way := place
			way.Platform = spec.Platforms[0]
			return publish.Output{}, usage("also build that platform, or write "+way.String(), "%s requires %s, but only %s is built", text, platform.Key(o.Platform), platform.Keys(spec.Platforms))
		}
	}
	if place.Streams() && p.Terminal {
		return publish.Output{}, usage("name a file, or use a pipe: | docker load", "%s: stdout is a terminal", text)
	}
	// Any error here is a usage error, since the user can name another destination.
	if err := place.Check(ctx); err != nil {
		return publish.Output{}, usage(hint.Of(err), "%s", o.About(err))
	}
	if command, err := place.Command(ctx); err == nil && command == "podman" {
		p.Log.InfoContext(ctx, spec.Name+" goes to podman, because Docker does not answer")
	}
	return o, nil
}

// needed returns the platforms to build: those of spec, or fewer if each destination holds
// one, as a daemon or a Docker archive does, and no flag or variable names the platforms.
func (p *Planner) needed(spec build.Spec, outputs []publish.Output) (platforms []ocispec.Platform, all bool) {
	explicit := p.Config.Origin("platforms").Kind >= yamlconf.FromEnv
	other := slices.ContainsFunc(outputs, func(o publish.Output) bool { return o.Platform.OS == "" })
	if p.Push || len(outputs) == 0 || explicit || other || p.Config.SBOMDir != "" {
		return spec.Platforms, spec.All
	}
	for _, o := range outputs {
		one := o.Platform
		if at, ok := platform.Choose(one, spec.Platforms); ok {
			one = spec.Platforms[at]
		}
		if !slices.ContainsFunc(platforms, func(p ocispec.Platform) bool { return platform.Key(p) == platform.Key(one) }) {
			platforms = append(platforms, one)
		}
	}
	return platforms, false
}

// distinctOutputs returns an error for each output whose destination another program has.
// Layouts and OCI archives hold several images under different names, a Docker archive one.
// So two keys are taken: place and name, and for archives the path. A program may have an
// output twice, except standard output.
func distinctOutputs(plans []publish.Plan) error {
	var errs []error
	// What has a key, and the position of its plan.
	taken, of := map[string]publish.Output{}, map[string]int{}
	for n, p := range plans {
		for _, o := range p.Outputs {
			at := o.Place
			at.Name, at.Platform = "", ocispec.Platform{}
			if at.Form != local.FormContainerd && at.Path != "" {
				at.Path = filepath.Clean(at.Path)
			}
			// The first key is the name within the destination, the second an archive as a
			// whole.
			keys := []string{at.String() + " " + o.Ref}
			if places.IsArchive(at.Form) {
				keys = append(keys, at.Path)
			}
			var err error
			for _, key := range keys {
				first, has := taken[key]
				name, same := plans[of[key]].Spec.Name, of[key] == n
				taken[key], of[key] = o, n
				switch archive := key == at.Path; {
				case !has || err != nil:
				case archive && (o.Place.Streams() || first.Place.Form != at.Form):
					err = usage("use a different file for each", "%s and %s have the same destination %s", first.Text, o.Text, at.Path)
				case same: // both outputs get the same content
				case archive && at.Form == local.FormDockerArchive:
					err = usage("build them separately, or into oci:DIR", "%s holds one image, but is the destination of %s and %s", o.Text, name, p.Spec.Name)
				case !archive:
					err = usage("omit the name in -o, and give each its own id in the configuration file", "%s and %s have the same name %s in %s", name, p.Spec.Name, o.Ref, at)
				}
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
