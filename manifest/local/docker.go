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

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A DockerArchive is a file that docker load reads. It holds one image: of an
// index, that for Platform (the zero value: linux on the host's architecture).
// The reference is the tag under which Docker will know the image; empty for none.
//
// One that docker save wrote may hold several, each of several names. A compressed one
// is read as an [Archive] is.
type DockerArchive struct {
	File     string
	Out      io.Writer // written to in place of File
	Platform ocispec.Platform
	// Scratch gives the directory of temporary files; nil is the system's.
	Scratch func(context.Context) (dir string, err error)

	unpacked unpacked
	saved    saved
}

var _ manifest.Sink = (*DockerArchive)(nil)

// Close removes temporary files. What Get returned cannot be read after it.
func (a *DockerArchive) Close() error { return a.unpacked.close() }

// Put writes the archive, which appears whole or stays as it was. A link is
// followed; a device or a pipe is written to and stays.
func (a *DockerArchive) Put(ctx context.Context, ref string, content manifest.Content) error {
	return a.PutNames(ctx, content, ref)
}

// PutNames is Put of an image that has several names.
func (a *DockerArchive) PutNames(ctx context.Context, content manifest.Content, refs ...string) error {
	var img v1.Image
	names := map[name.Reference]v1.Image{}
	for _, ref := range refs {
		one, tag, err := single(ref, content, a.Platform)
		if err != nil {
			return err
		}
		if img == nil {
			img = one // the same for all, or it would be another image
		}
		names[tag] = img
	}
	return writeFile(ctx, a.Out, a.File, func(w io.Writer) error { return tarball.MultiRefWrite(names, w) })
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
	t.failed = "start the daemon (docker context ls shows which one is used), or write to docker-archive:FILE"
	return t.probe(ctx, "version", "--format", "{{.Server.Version}}")
}

// Put loads the image under the tag ref. The daemon moves the tag when it has all
// of the image.
func (k *Docker) Put(ctx context.Context, ref string, content manifest.Content) error {
	img, tag, err := single(ref, content, k.Platform)
	if err != nil {
		return err
	}
	return k.tool().start(ctx, func(w io.Writer) error { return tarball.Write(tag, img, w) }, "load")
}

func (k *Docker) tool() tool {
	return tool{command: k.Command, standard: "docker", way: "install Docker's command line, or write to docker-archive:FILE"}
}

// single returns the one image of content that a Docker form takes, and its tag, or by
// its digest where ref is empty.
func single(ref string, content manifest.Content, want ocispec.Platform) (v1.Image, name.Reference, error) {
	if want.OS == "" {
		if images, err := imagesIn(content); err == nil && len(images) > 1 {
			want = platform.Normalize(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
		}
	}
	img, err := Single(content, want)
	if err != nil {
		return nil, nil, err
	}
	if ref == "" {
		digest, err := img.Digest()
		if err != nil {
			return nil, nil, err
		}
		by, err := name.NewDigest("image@" + digest.String())
		return &sole{img}, by, err
	}
	tag, err := name.NewTag(ref)
	return &sole{img}, tag, err
}

// Single returns the one image of content that a Docker form takes: that for want or,
// where want is the zero value, the only one there is. The error has a hint that names
// those there are.
func Single(content manifest.Content, want ocispec.Platform) (v1.Image, error) {
	if img, ok := content.(v1.Image); ok && want.OS == "" {
		return img, nil
	}
	images, err := imagesIn(content)
	if err != nil {
		return nil, err
	}
	if want.OS == "" && len(images) == 1 {
		return images[0].Image()
	}
	images = slices.DeleteFunc(images, func(e manifest.Entry) bool { return !e.Placed() })
	have := make([]ocispec.Platform, len(images))
	for i, e := range images {
		have[i] = e.Platform
	}
	if want.OS == "" && len(have) > 0 {
		return nil, &SeveralError{Count: len(have), Platforms: have}
	}
	at, ok := platform.Choose(want, have)
	if _, single := content.(v1.Image); single && !ok {
		return nil, fmt.Errorf("no image for %s, only for %s", platform.Key(want), cmp.Or(platform.Keys(have), "an unknown platform"))
	}
	if len(have) == 0 {
		return nil, hint.New(hint.Build, "mabuild inspect lists the content", "Docker requires an image of one platform, but there is none")
	}
	if !ok {
		return nil, hint.New(hint.Build, "select one with platform=P", "no image for %s, only for %s", platform.Key(want), platform.Keys(have))
	}
	return images[at].Image()
}

// imagesIn returns the entries of content, an index or an image, that are images.
func imagesIn(content manifest.Content) ([]manifest.Entry, error) {
	entries, err := manifest.Identified(content)
	return slices.DeleteFunc(entries, func(e manifest.Entry) bool { return e.Kind != manifest.KindImage }), err
}

// sole is an image that can be a key of a map, as the tarball package needs.
type sole struct{ v1.Image }
