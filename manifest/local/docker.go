package local

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A DockerArchive is a file that docker load reads. It holds one image: of an
// index, that for Platform (the zero value: linux on the host's architecture).
// The reference is the tag under which Docker will know the image.
type DockerArchive struct {
	File     string
	Out      io.Writer // written to in place of File
	Platform ocispec.Platform
}

var _ manifest.Sink = (*DockerArchive)(nil)

// Put writes the archive, which appears whole or stays as it was. A link is
// followed; a device or a pipe is written to and stays.
func (a *DockerArchive) Put(ctx context.Context, ref string, content manifest.Content) error {
	img, tag, err := single(ref, content, a.Platform)
	if err != nil {
		return err
	}
	return writeFile(ctx, a.Out, a.File, func(w io.Writer) error { return tarball.Write(tag, img, w) })
}

// Docker is the Docker daemon, reached by the docker command: that knows the
// contexts, hosts and certificates of the person.
type Docker struct {
	Platform ocispec.Platform // of an index; the zero value: linux on the host's architecture
	Command  []string         // in place of "docker"
}

var _ manifest.Sink = (*Docker)(nil)

// Available reports whether the command is there and a daemon answers it; the
// error says what is missing.
func (k *Docker) Available(ctx context.Context) error {
	t := k.tool()
	t.failed = "start the daemon (docker context ls says which is asked), or write docker-archive:FILE"
	return t.probe(ctx, "version", "--format", "{{.Server.Version}}")
}

// Put loads the image under the tag ref. The daemon moves the tag when it has all
// of the image.
func (k *Docker) Put(ctx context.Context, ref string, content manifest.Content) error {
	img, tag, err := single(ref, content, k.Platform)
	if err != nil {
		return err
	}
	return k.tool().run(ctx, func(w io.Writer) error { return tarball.Write(tag, img, w) }, "load")
}

func (k *Docker) tool() tool {
	return tool{command: k.Command, standard: "docker", way: "install Docker's command line, or write docker-archive:FILE"}
}

// single returns the one image of content that a Docker form takes, and its tag.
func single(ref string, content manifest.Content, want ocispec.Platform) (v1.Image, name.Tag, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return nil, tag, err
	}
	explicit := want.OS != ""
	if !explicit {
		want = platform.Normalize(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
	}
	switch c := content.(type) {
	case v1.Image:
		if explicit {
			_, err = chosen(c, want)
		}
		return &sole{c}, tag, err
	case v1.ImageIndex:
		img, err := chosen(c, want)
		return &sole{img}, tag, err
	}
	return nil, tag, fmt.Errorf("neither an image nor an index: %T", content)
}

// sole is an image that can be a key of a map, as the tarball package needs.
type sole struct{ v1.Image }

// chosen returns the image of content, an index or an image, to run want on.
func chosen(content manifest.Content, want ocispec.Platform) (v1.Image, error) {
	entries, err := manifest.Identified(content)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e manifest.Entry) bool { return e.Kind != manifest.KindImage || !e.Placed() })
	have := make([]ocispec.Platform, len(entries))
	for i, e := range entries {
		have[i] = e.Platform
	}
	at, ok := platform.Choose(want, have)
	if _, single := content.(v1.Image); single && !ok {
		return nil, fmt.Errorf("no %s: the image is for %s", platform.Key(want), cmp.Or(platform.Keys(have), "no platform that its config names"))
	}
	if !ok {
		return nil, hint("name one with platform=P", "Docker takes one platform, and there is no %s among %s", platform.Key(want), platform.Keys(have))
	}
	return entries[at].Image()
}
