// Package local holds the places for images that are no registry: OCI layout
// directories and archives, Docker archives, the Docker daemon and containerd.
//
// Each is a [manifest.Sink]; layouts and archives are a [manifest.Source] too:
// [Layout], [Archive], [DockerArchive], [Docker] and [Containerd]. A program that
// takes a place as text, as the commands do, reads it by [Parse] and asks the
// [Place] for its Source or Sink.
//
// What is read from them is trusted as little as what comes from a network: every
// byte is held against its digest, manifests are bounded, and a blob is a regular
// file or it is refused.
package local

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/manifest"
)

// The forms that [Parse] knows, each with what follows it.
const (
	FormLayout        = "oci"            // DIR[:NAME][@DIGEST]
	FormArchive       = "oci-archive"    // FILE[:NAME][@DIGEST]
	FormDockerArchive = "docker-archive" // FILE[:NAME][@DIGEST][,platform=P]
	FormDockerDaemon  = "docker-daemon"  // [platform=P]
	FormContainerd    = "containerd"     // [NAMESPACE]
)

const forms = "oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME][,platform=P], docker-daemon:[platform=P], containerd:[NAMESPACE]"

// A Place is where an image lies or goes, as a person writes it.
type Place struct {
	Form string
	// Path is the directory or file; the namespace of containerd.
	Path string
	// Name is the name that was given to the image there; empty for none.
	Name string
	// Digest is the image's; zero for none.
	Digest v1.Hash
	// Platform is the one that a Docker form takes; the zero value stands for
	// the host's.
	Platform ocispec.Platform
	// Out is what an archive is written to whose Path is "-", as standard output
	// is called; nil: there is no such place.
	Out io.Writer
	// Scratch is the Scratch of the archive that Source returns.
	Scratch func(context.Context) (dir string, err error)
}

// Stdout is the Path of an archive that is written to standard output.
const Stdout = "-"

// Is reports whether text has one of the forms, rather than being the reference
// of an image in a registry.
func Is(text string) bool {
	form, _, ok := strings.Cut(text, ":")
	switch form {
	case FormLayout, FormArchive, FormDockerArchive, FormDockerDaemon, FormContainerd:
		return ok
	}
	return false
}

// streams reports whether the place is an archive on standard output.
func (p Place) streams() bool {
	return p.Path == Stdout && (p.Form == FormArchive || p.Form == FormDockerArchive)
}

// Source returns the source that reads the place, of which [Place.Ref] is the
// reference to ask for. The forms that are files or directories can be read.
func (p Place) Source() (manifest.Source, error) {
	if p.streams() {
		return nil, hint.New(hint.Build, "save it to a file", "%s: an archive cannot be read from stdin", p)
	}
	switch p.Form {
	case FormLayout:
		return &Layout{Dir: p.Path}, nil
	case FormArchive:
		return &Archive{File: p.Path, Scratch: p.Scratch}, nil
	case FormDockerArchive:
		return &DockerArchive{File: p.Path, Platform: p.Platform, Scratch: p.Scratch}, nil
	}
	return nil, hint.New(hint.Build, "use oci:DIR, oci-archive:FILE or docker-archive:FILE", "%s: can only be written", p.Form)
}

// Sink returns the sink that writes to the place. Where the place has a Name, that
// takes the place of the reference that Put is given, but for what only refers to an
// image: "@" and a digest, or a tag sha256-….
func (p Place) Sink() (manifest.Sink, error) {
	if p.Digest != (v1.Hash{}) {
		return nil, hint.New(hint.Build, "omit the digest", "%s: a destination cannot have a digest", p)
	}
	var out io.Writer
	if p.streams() {
		if out = p.Out; out == nil {
			return nil, hint.New(hint.Build, "use a file", "%s: cannot be written to stdout", p)
		}
	}
	var sink manifest.Sink
	switch p.Form {
	case FormLayout:
		sink = &Layout{Dir: p.Path}
	case FormArchive:
		sink = &Archive{File: p.Path, Out: out}
	case FormDockerArchive:
		sink = &DockerArchive{File: p.Path, Out: out, Platform: p.Platform}
	case FormDockerDaemon:
		sink = &Docker{Platform: p.Platform}
	case FormContainerd:
		sink = &Containerd{Namespace: p.Path}
	default:
		return nil, hint.New(hint.Build, "write "+forms, "%q is not a local destination or source", p.Form)
	}
	batch, batches := sink.(manifest.BatchPutter)
	switch {
	case p.Name == "":
		return sink, nil
	case batches:
		return &renamedBatchPutter{renamed{sink, p.Ref()}, batch}, nil
	}
	return &renamed{sink, p.Ref()}, nil
}

// Check says what keeps the place from being written, as far as that can be seen
// without writing: a directory that is not there, a file in the place of one, a
// daemon that does not answer.
func (p Place) Check(ctx context.Context) error {
	switch p.Form {
	case FormLayout:
		return (&Layout{Dir: p.Path}).check()
	case FormArchive, FormDockerArchive:
		if p.streams() {
			return nil
		}
		if err := outfile.Check(p.Path); err != nil {
			return hint.New(hint.Build, "create the directory, and name a file in it", "%w", err)
		}
		if p.Form == FormArchive {
			_, err := (&Archive{File: p.Path}).old(ctx)
			return err
		}
	case FormDockerDaemon:
		return new(Docker).Available(ctx)
	case FormContainerd:
		return (&Containerd{Namespace: p.Path}).Available(ctx)
	}
	return nil
}

// renamed is a sink whose reference was chosen by the place. What refers to an image
// is not meant by that.
type renamed struct {
	manifest.Sink
	ref string
}

func (r *renamed) Put(ctx context.Context, ref string, c manifest.Content) error {
	return r.Sink.Put(ctx, r.choose(ref), c)
}

func (r *renamed) choose(ref string) string {
	if apart(ref) {
		return ref
	}
	return r.ref
}

type renamedBatchPutter struct {
	renamed
	batch manifest.BatchPutter
}

func (r *renamedBatchPutter) PutAll(ctx context.Context, all ...manifest.Named) error {
	all = slices.Clone(all)
	for i := range all {
		all[i].Ref = r.choose(all[i].Ref)
	}
	return r.batch.PutAll(ctx, all...)
}

// mismatch makes an error about content that contradicts its claim.
func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), manifest.ErrMismatch)
}

// notFound makes an error about what is not there.
func notFound(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), manifest.ErrNotFound)
}
