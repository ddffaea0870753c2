// Package manifest holds what lives in registries, layouts and archives: images
// and indexes, and the few verbs that work on them wherever they live.
//
// A place differs from another only in how it gets and puts: [Source] and
// [Sink]. The registry client is in manifest/registry, files and daemons are in
// manifest/local.
//
// Which entries of an index are images, and of what platform, is said by [Identify], and
// of all entries by [Entries] and [Identified]; everything else has it from there.
//
// The verbs: [Inspect] reports what a reference names and runs on; [Assembly.Create]
// makes an index of images that exist, [Index] one of content at hand; [Copy] carries
// an image, an index or some of its platforms from a Source to a Sink, and [Select]
// is its first half, for who wants to know before anything is read.
//
// What a place can do beyond get and put are interfaces of one method, found by type
// assertion: [ReferrerLister], [PushPreparer], [BasePusher], [BatchPutter].
package manifest

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/hint"
)

// Content is a manifest and all that it reaches: a [v1.Image] or a
// [v1.ImageIndex], or as a child of an index [Bytes], which are neither.
type Content interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// A Source gives content by reference. What a reference looks like is the
// source's affair.
type Source interface {
	// Resolve returns the descriptor of what ref names, for a registry with one
	// HEAD. errors.Is(err, ErrNotFound) means that the source answered that
	// there is no such thing (404), and nothing else.
	Resolve(ctx context.Context, ref string) (v1.Descriptor, error)
	// Get returns what ref names. Its children and layers are lazy and read
	// under ctx, which must live as long as they are used.
	Get(ctx context.Context, ref string) (Content, error)
}

// A Sink stores content under a reference.
type Sink interface {
	// Put makes ref name c. Everything that c reaches is stored first and ref
	// moves last; on an error ref is as it was. What was stored or seen in this
	// run is not asked for twice. All work is done when Put returns.
	Put(ctx context.Context, ref string, c Content) error
}

// A PushPreparer is a Sink that can say early whether ref can be written.
type PushPreparer interface {
	// Prepare asks what ref names now (the zero Descriptor: nothing) and with
	// that whether the credentials hold. Where ref names nothing yet it also
	// opens the upload that the first blob will use, which proves the right to
	// push. release gives an upload that nobody used back; it may be called
	// more than once.
	Prepare(ctx context.Context, ref string) (current v1.Descriptor, release func(), err error)
}

// A BasePusher is a Sink that can store layers ahead of the image they belong to.
type BasePusher interface {
	// Carry stores the layers where a later Put to ref finds them.
	Carry(ctx context.Context, ref string, layers ...v1.Layer) error
}

// ErrNotFound is what a [Source] returns for a reference that does not exist.
var ErrNotFound = errors.New("not found")

// ErrUnanswered is in the chain of the error of a [Source] that refuses to say what a
// reference names: the reference may name anything, or nothing. It does not stand
// beside [ErrNotFound].
var ErrUnanswered = errors.New("the registry does not report the content")

// ErrMismatch is in the chain of every error that says that content contradicts
// its digest, size, media type or declared platform.
var ErrMismatch = hint.New(hint.Content, "", "content contradicts its claim")

// ErrObsolete is in the chain of the error about a manifest of Docker's schema 1,
// which registries and runtimes no longer take.
var ErrObsolete = hint.New(hint.Registry, "push the image again with a current tool",
	"a Docker schema 1 manifest, which registries and runtimes no longer support")

// Describe returns the descriptor of c: media type, digest and size.
func Describe(c Content) (v1.Descriptor, error) {
	mediaType, err := c.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, err := c.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := c.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, nil
}
