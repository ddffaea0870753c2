package main

import (
	"context"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// outputs lists the local destinations of a program.
func (a *app) outputs(ctx context.Context, spec build.Spec, c config.Build, o pushOptions) ([]output, error) {
	wanted := a.config.Output
	if len(wanted) == 0 && !o.push {
		if err := new(local.Docker).Available(ctx); err != nil {
			return nil, usage("-o oci:DIR, -o oci-archive:FILE, -o docker-archive:FILE or -o containerd:", "build wants a destination: %s", err)
		}
		wanted = []string{"docker-daemon:"}
	}
	tag, err := localTag(spec, c)
	if err != nil {
		return nil, err
	}
	list := make([]output, len(wanted))
	for i, text := range wanted {
		if list[i], err = newOutput(text, tag, spec); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// localTag is the name of a program's image where there is no registry.
func localTag(spec build.Spec, c config.Build) (string, error) {
	tags, err := spec.Vars.ExpandAll(c.Tags)
	switch {
	case err != nil:
		return "", err
	case len(tags) == 0:
		return spec.Name + ":latest", nil
	case isFull(tags[0]):
		return tags[0], nil
	}
	return spec.Name + ":" + tags[0], nil
}

// newOutput opens one destination, and refuses early what takes a platform that
// is not built.
func newOutput(text, tag string, spec build.Spec) (output, error) {
	place, err := local.Parse(text)
	if err != nil {
		return output{}, &usageError{err: err}
	}
	sink, err := place.Sink()
	if err != nil {
		return output{}, &usageError{err: err}
	}
	switch place.Form {
	case local.FormDockerArchive, local.FormDockerDaemon:
		if spec.Compression.Format == build.Zstd {
			return output{}, usage("use gzip", "--compression zstd: what docker load reads has no word for it, and %s wants that", text)
		}
		want := place.Platform
		if want.OS == "" {
			want = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		}
		if _, ok := platform.Choose(want, spec.Platforms); !ok && !spec.All {
			return output{}, usage("name one with "+place.Form+":platform=P", "%s takes one platform, and %s is not built, only %s", text, platform.Key(want), platform.Keys(spec.Platforms))
		}
	}
	return output{text: text, sink: sink, ref: tag, single: place.Form == local.FormDockerArchive}, nil
}
