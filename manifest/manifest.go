// Package manifest describes images and indexes (image-spec, manifest.md and
// image-index.md) wherever they are stored, and has the operations on them.
//
// Registries, layouts, archives and daemons differ only in how they get and put content:
// [Source] and [Sink]. The registry client is in manifest/registry; layouts, archives and
// daemons are in manifest/local.
//
// [Identify] decides whether a descriptor is an image and for what platform. [Entries]
// and [Identified] apply it to all entries of an index. All other code uses their answer,
// so that two commands never disagree about an image.
//
//   - [Inspect] reports what a reference names and the platforms it runs on.
//   - [Assembly.Create] makes an index of images that exist, and [Index] of content at
//     hand.
//   - [Copy] copies an image, an index or some of its platforms from a Source to a Sink.
//     [Select] is its first half, for callers that need the digest before anything is
//     read.
//
// Content is lazy: a manifest is read when it is asked for, a layer when it is opened,
// under the context of the call that returned the content. All content is compared with
// its digest while it is read; other content is [ErrMismatch]. Only parts of layers are
// not compared. Numbers from outside are bounded: 10,000 entries of a list and eight
// indexes within each other. The package does not retry, and it never changes the bytes
// of a child.
//
// Optional abilities of a Source or Sink are interfaces of one method, which callers find
// by type assertion: [ReferrerLister] and [BatchPutter].
package manifest

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/hint"
)

// Content is a manifest and all that it names, directly or through an index: a [v1.Image]
// or a [v1.ImageIndex]. A child of an index may be neither; it is stored and copied as the
// bytes of RawManifest.
type Content interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// A Source gets content by reference. Each Source defines the form of its references. A
// Source of this module is safe for concurrent use.
type Source interface {
	// Resolve returns the descriptor of what ref names, in a registry by one HEAD.
	// errors.Is(err, ErrNotFound) means that the source has answered that ref does not
	// exist (404), and nothing else: a source that cannot be reached is another error.
	Resolve(ctx context.Context, ref string) (v1.Descriptor, error)
	// Get returns what ref names. Its children and layers are lazy and read under ctx,
	// which must live as long as they are used.
	Get(ctx context.Context, ref string) (Content, error)
}

// A Sink stores content under a reference. A Sink of this module is safe for concurrent
// use unless it writes to an io.Writer of the caller.
type Sink interface {
	// Put makes ref name c. It stores everything that c names first and changes ref last,
	// so ref never names incomplete content; after an error ref is as it was. Content
	// that this run has stored or seen in the sink is not asked for again. No work
	// continues after Put returns.
	Put(ctx context.Context, ref string, c Content) error
}

// ErrNotFound is in the chain of the error of a [Source] for a reference that does not
// exist.
var ErrNotFound = errors.New("not found")

// ErrUnanswered is in the chain of the error of a [Source] that does not report what a
// reference names: the reference may name something or nothing. No error has both this
// and [ErrNotFound] in its chain.
var ErrUnanswered = errors.New("the registry does not report the content")

// ErrMismatch is in the chain of every error about content that contradicts its digest,
// size, media type or declared platform, or that exceeds a bound.
var ErrMismatch = hint.New(hint.Content, "", "content contradicts its claim")

// ErrObsolete is in the chain of the error about a manifest of Docker's schema 1,
// which registries and runtimes no longer take.
var ErrObsolete = hint.New(hint.Content, "push the image again with a current tool",
	"a Docker schema 1 manifest, which registries and runtimes no longer support")

// Describe returns the descriptor of a [Content] or a [v1.Layer]: media type, digest and
// size.
func Describe(c interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
},
) (v1.Descriptor, error) {
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

// Named is content and the reference that will name it.
type Named struct {
	Ref     string
	Content Content
}

// A BatchPutter is a Sink that stores several contents in one step, such as an image and
// its referrers in one archive. An archive is a single file, so one Put for each would
// write it anew each time.
type BatchPutter interface {
	// PutAll has the effect of one Put for each content, but all at once: after an error
	// every reference is as it was.
	PutAll(ctx context.Context, all ...Named) error
}
