// Package local reads and writes images outside registries: OCI layouts and archives,
// Docker archives, the Docker daemon and containerd.
//
// A [Place] is one of them, and [Parse] reads it from text. Its Sink is a [manifest.Sink].
// Layouts and archives also have a Source, a [manifest.Source]; daemons are only written.
// [Layout] and [Archive] open OCI content without a Place, as a [Store].
//
// Files are not trusted more than a registry: every blob is compared with its digest
// while it is read, the size of manifests and the number of blobs and entries are
// bounded, and anything that is not a regular file is refused. A file that is written
// appears complete or stays as it was.
//
// The package deletes no images. It keeps no file open between calls, except for
// decompressed archives until Close. It does not talk to daemons itself but runs their
// command-line tools.
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

// The forms that [Parse] supports, each with the rest of the text.
const (
	FormLayout        = "oci"            // DIR[:NAME][@DIGEST]
	FormArchive       = "oci-archive"    // FILE[:NAME][@DIGEST]
	FormDockerArchive = "docker-archive" // FILE[:NAME][@DIGEST][,platform=P]
	FormDockerDaemon  = "docker-daemon"  // [platform=P]
	FormContainerd    = "containerd"     // [NAMESPACE]
)

// forms lists the forms for hints.
const forms = "oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME][,platform=P], docker-daemon:[platform=P], containerd:[NAMESPACE]"

// A Place is the location of an image outside registries, as a user writes it. It is
// plain data and may be copied.
type Place struct {
	Form string
	// Path is the directory or file, or the namespace of containerd.
	Path string
	// Name is the name of the image in the place; "" if none was given.
	Name string
	// Digest is the digest of the image; zero if none was given.
	Digest v1.Hash
	// Platform is the platform for a Docker form; the zero value means linux on the
	// host's architecture.
	Platform ocispec.Platform
	// Out is written to by an archive whose Path is "-", normally standard output. If it
	// is nil, such a Place cannot be written.
	Out io.Writer
	// Scratch becomes the Scratch of the archive that Source returns.
	Scratch func(context.Context) (dir string, err error)
}

// A Store is an OCI layout or an archive of one: see [Layout] and [Archive]. It is safe for
// concurrent use.
//
// A reference is the name of an entry in index.json ("app:v1", or "v1" if that is unique),
// "@" and a digest, both in this order, or empty for the only image ([Place.Ref]). The
// name of an entry is the full name that containerd and Docker write, or else the ref.name
// of the specification. If several images match, the error is a [SeveralError]. If the
// directory or file does not exist, it is [manifest.ErrNotFound].
//
// A referrer (a signature, an SBOM) is put under its own digest, "@sha256:…", or under
// cosign's tag, and becomes an entry beside that of the image. It does not count as an
// image when the only image is asked for. Referrers ignores the repository, because a store
// has one list for all images.
type Store interface {
	manifest.Source
	manifest.Sink
	manifest.BatchPutter
	manifest.ReferrerLister
	// Images lists the images that ref names, sorted by name: one image if ref names one,
	// all images if ref is empty. An image with several names is listed with each.
	// Referrers are left out unless there is nothing else.
	Images(ctx context.Context, ref string) ([]Holding, error)
	// String returns the store in the form that [Parse] reads.
	String() string
	// Close removes temporary files. Content of a compressed archive cannot be read after
	// it.
	Close() error
}

// Layout returns the OCI image layout (image-spec, image-layout.md) in a directory, which
// the first Put makes if it does not exist.
//
// Several goroutines and processes may read and write one directory at once. A process
// that is killed leaves index.json as it was or as it should be, and at worst a temporary
// file that a later Put removes after a day. Blobs are never deleted: those that no entry
// names any more stay.
func Layout(dir string) Store { return &ociLayout{Dir: dir} }

// Archive returns the tar file of an OCI image layout.
//
// A Put replaces the whole file, so a reader sees the old content or the new one, and
// after an error the file is as it was. The same content under the same names makes the
// same bytes. Concurrent Puts to one file, in one process or in several, wait for each
// other; on Windows and on file systems without locks only those of one process do, and
// of two processes the last one wins. A symbolic link is followed. A device or a pipe is
// written to directly.
//
// An archive that is compressed with gzip or zstd can be read but not added to. It is
// decompressed into a temporary file, which Close removes.
func Archive(file string) Store { return &ociArchive{File: file} }

// Stdout is the Path of an archive that is written to standard output.
const Stdout = "-"

// Is reports whether text begins with one of the forms. Otherwise it is a reference of a
// registry.
func Is(text string) bool {
	form, _, ok := strings.Cut(text, ":")
	switch form {
	case FormLayout, FormArchive, FormDockerArchive, FormDockerDaemon, FormContainerd:
		return ok
	}
	return false
}

// Streams reports whether the place is an archive on standard output.
func (p Place) Streams() bool {
	return p.Path == Stdout && (p.Form == FormArchive || p.Form == FormDockerArchive)
}

// Source returns the source that reads the place; [Place.Ref] is the reference to get.
// Daemons and standard output cannot be read. If the source has a Close method, the
// caller calls it.
func (p Place) Source() (manifest.Source, error) {
	if p.Streams() {
		return nil, hint.New(hint.Build, "save it to a file", "%s: an archive cannot be read from stdin", p)
	}
	switch p.Form {
	case FormLayout:
		return &ociLayout{Dir: p.Path}, nil
	case FormArchive:
		return &ociArchive{File: p.Path, Scratch: p.Scratch}, nil
	case FormDockerArchive:
		return &dockerArchive{File: p.Path, Platform: p.Platform, Scratch: p.Scratch}, nil
	}
	return nil, hint.New(hint.Build, "use oci:DIR, oci-archive:FILE or docker-archive:FILE", "%s: can only be written", p.Form)
}

// Sink returns the sink that writes to the place. If the place has a Name, it replaces
// the reference of each Put, except for references of referrers: "@" and a digest, or a
// tag sha256-…. A destination with a digest is an error, since content decides its
// digest.
func (p Place) Sink() (manifest.Sink, error) {
	if p.Digest != (v1.Hash{}) {
		return nil, hint.New(hint.Build, "omit the digest", "%s: a destination cannot have a digest", p)
	}
	var out io.Writer
	if p.Streams() {
		if out = p.Out; out == nil {
			return nil, hint.New(hint.Build, "use a file", "%s: cannot be written to stdout", p)
		}
	}
	var sink manifest.Sink
	switch p.Form {
	case FormLayout:
		sink = &ociLayout{Dir: p.Path}
	case FormArchive:
		sink = &ociArchive{File: p.Path, Out: out}
	case FormDockerArchive:
		sink = &dockerArchive{File: p.Path, Out: out, Platform: p.Platform}
	case FormDockerDaemon:
		sink = &dockerDaemon{Platform: p.Platform}
	case FormContainerd:
		sink = &containerd{Namespace: p.Path}
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

// Command returns the command of the daemon that the place is: docker, or podman if Docker
// does not answer. Other forms than [FormDockerDaemon] have none, and "".
func (p Place) Command(ctx context.Context) (string, error) {
	if p.Form != FormDockerDaemon {
		return "", nil
	}
	t, err := new(dockerDaemon).available(ctx)
	return t.name(), err
}

// Check returns why the place cannot be written, as far as can be seen without writing: a
// missing directory, a file in place of a directory, a daemon that does not answer. A
// build calls it before it compiles.
func (p Place) Check(ctx context.Context) error {
	switch p.Form {
	case FormLayout:
		return (&ociLayout{Dir: p.Path}).check()
	case FormArchive, FormDockerArchive:
		if p.Streams() {
			return nil
		}
		if err := outfile.Check(p.Path); err != nil {
			return hint.New(hint.Build, "create the directory, and name a file in it", "%w", err)
		}
		if p.Form == FormArchive {
			_, err := (&ociArchive{File: p.Path}).old(ctx)
			return err
		}
	case FormDockerDaemon:
		_, err := new(dockerDaemon).available(ctx)
		return err
	case FormContainerd:
		return (&containerd{Namespace: p.Path}).available(ctx)
	}
	return nil
}

// renamed is a sink whose place has a name, which replaces the reference of a Put.
// References of referrers are not replaced.
type renamed struct {
	manifest.Sink
	ref string
}

// Put stores c under the name of the place, or under ref if c is a referrer.
func (r *renamed) Put(ctx context.Context, ref string, c manifest.Content) error {
	return r.Sink.Put(ctx, r.choose(ref), c)
}

// choose returns the reference to use for ref.
func (r *renamed) choose(ref string) string {
	if apart(ref) {
		return ref
	}
	return r.ref
}

// renamedBatchPutter is renamed for a sink that is a [manifest.BatchPutter]; callers find
// that out by a type assertion, so the wrapper must not hide it.
type renamedBatchPutter struct {
	renamed
	batch manifest.BatchPutter
}

// PutAll is Put of all contents in one step. It does not change the slice of the caller.
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

// notFound returns an error about content that does not exist ([manifest.ErrNotFound]).
func notFound(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), manifest.ErrNotFound)
}
