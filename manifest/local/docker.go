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

// A dockerArchive is a file that docker load reads. A Put writes one image. Of an index
// it takes the image for Platform; the zero value means linux on the host's architecture,
// or the only image there is. The reference is the tag that Docker gives to the image; it
// may be empty.
//
// An archive of docker save may hold several images with several names each, and all can
// be read. A compressed one is read as an [Archive] is.
type dockerArchive struct {
	File     string
	Out      io.Writer // if set, it is written to in place of File
	Platform ocispec.Platform
	// Scratch returns the directory for temporary files; nil means that of the system.
	Scratch func(context.Context) (dir string, err error)

	unpacked unpacked
	saved    saved
}

var _ manifest.Sink = (*dockerArchive)(nil)

// Close removes temporary files. Content of a compressed archive cannot be read after it.
func (a *dockerArchive) Close() error { return a.unpacked.close() }

// Put replaces the archive by one with this image alone. The file appears complete or
// stays as it was. A symbolic link is followed. A device or a pipe is written to
// directly.
func (a *dockerArchive) Put(ctx context.Context, ref string, content manifest.Content) error {
	return a.PutNames(ctx, content, ref)
}

// PutNames is Put of one image with several names. The archive stays as it was after an
// error.
func (a *dockerArchive) PutNames(ctx context.Context, content manifest.Content, refs ...string) error {
	var img v1.Image
	names := map[name.Reference]v1.Image{}
	for _, ref := range refs {
		one, tag, err := single(ref, content, a.Platform)
		if err != nil {
			return err
		}
		if img == nil {
			// A single value stands for all names: the tarball package lists an image
			// once for each value.
			img = one
		}
		names[tag] = img
	}
	return writeFile(ctx, a.Out, a.File, func(w io.Writer) error { return tarball.MultiRefWrite(names, w) })
}

// dockerDaemon is the Docker daemon, reached by the docker command, because that applies the
// user's contexts, hosts and certificates. If Docker is not there, podman takes its place.
// It can only be written.
type dockerDaemon struct {
	Platform ocispec.Platform // of an index; see dockerArchive
	Command  []string         // used in place of "docker"
}

var _ manifest.Sink = (*dockerDaemon)(nil)

// available returns the command that answers within five seconds. Otherwise the error says
// what is missing.
func (k *dockerDaemon) available(ctx context.Context) (tool, error) {
	docker := k.tool()
	probed := docker
	probed.failed = "start the daemon (docker context ls shows which one is used), or write to docker-archive:FILE"
	err := probed.probe(ctx, "version", "--format", "{{.Server.Version}}")
	if err == nil || len(k.Command) > 0 {
		return docker, err
	}
	podman := tool{standard: "podman"}
	if podman.probe(ctx, "version", "--format", "{{.Client.Version}}") == nil {
		return podman, nil
	}
	return docker, err
}

// tool returns the docker command, with a hint if it is not installed.
func (k *dockerDaemon) tool() tool {
	return tool{command: k.Command, standard: "docker", way: "install Docker's command line or podman, or write to docker-archive:FILE"}
}

// Put streams the image to docker load under the tag ref. The daemon moves the tag when
// it has the whole image.
func (k *dockerDaemon) Put(ctx context.Context, ref string, content manifest.Content) error {
	img, tag, err := single(ref, content, k.Platform)
	if err != nil {
		return err
	}
	t := k.tool()
	if len(k.Command) == 0 {
		if t, err = k.available(ctx); err != nil {
			return err
		}
	}
	return t.start(ctx, func(w io.Writer) error { return tarball.Write(tag, img, w) }, "load")
}

// single returns the one image of content that a Docker format can hold, and its tag. If
// ref is empty, the reference is a digest, which the tarball package writes without a
// tag.
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
		return &struct{ v1.Image }{img}, by, err
	}
	tag, err := name.NewTag(ref)
	// The tarball package uses images as keys of a map, so the type is a pointer.
	return &struct{ v1.Image }{img}, tag, err
}

// Single returns the one image of content that a Docker format can hold: the one for
// want, or the only one if want is the zero value. The error is a [*SeveralError] if
// several images could be meant, and otherwise has a hint with the platforms that exist.
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
	// Only images with a complete platform can be chosen by platform.
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

// imagesIn returns the entries of content, an index or a single image, that are images.
func imagesIn(content manifest.Content) ([]manifest.Entry, error) {
	entries, err := manifest.Identified(content)
	return slices.DeleteFunc(entries, func(e manifest.Entry) bool { return e.Kind != manifest.KindImage }), err
}
