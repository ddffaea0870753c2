package manifest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// An Assembly says how to make an index of images that exist. The same images and options
// make the same bytes, whatever the order of the items: two runs can be compared by
// digest. An Assembly is plain data; Create does not change it.
type Assembly struct {
	// Items are the images and indexes to include. The images of an index come with the
	// attestations that describe them, and without its other entries.
	Items []Item
	// Base is an index whose entries and annotations stay, except for what Remove names:
	// platforms in the form of platform.Key, matched by [platform.All], or digests. A
	// name that matches nothing is an error. With Replace an item replaces the entry that
	// has its platform; without Replace that is an error.
	//
	// The entries of nested indexes become entries of the result. An entry that is not an
	// image, or has no platform, stays, after the images. The media type, artifactType
	// and subject of the base stay; a Docker manifest list that gets an entry which it
	// cannot hold becomes an OCI index.
	Base    v1.ImageIndex
	Remove  []string
	Replace bool
	// Select keeps only these platforms, matched by [platform.All], of the items or, without
	// items, of the base. Each must exist, or
	// with Optional at least one. A platform without a version stands for all its
	// versions. If a platform is missing among the entries, the configs of entries
	// without a platform are read.
	Select   []ocispec.Platform
	Optional bool
	// Type is the media type of the index. "" means that of the Base. Without a Base it
	// means a Docker manifest list if all children have Docker's media type, else an OCI
	// index. A Docker manifest list of OCI children is an error, because no child is
	// rewritten.
	Type types.MediaType
	// Annotations are set on the index, and ChildAnnotations on its entries, by platform
	// in the form of platform.Key or by digest. A nil value removes the annotation. A
	// Docker manifest list supports neither.
	Annotations      map[string]*string
	ChildAnnotations map[string]map[string]*string
	// AllowMismatch warns if the config of an image names another platform than was
	// declared, in place of an error. The declared platform is used.
	AllowMismatch bool
	// TrustPlatforms does not read images whose platform is declared: a descriptor is
	// enough, at one HEAD for each image.
	TrustPlatforms bool
	// IgnoreMissing skips items that do not exist, with a warning. Without a Base at
	// least one item must exist.
	IgnoreMissing bool
	// Log gets the warnings; nil discards them.
	Log *slog.Logger
}

// An Item is an image or an index to include.
type Item struct {
	Ref string
	// Platform is the platform that is declared for the image, as platform.Declared reads
	// it. Without an OS the platform comes from the image. If Ref names an index, the
	// image for this platform is taken, or the only image there is.
	Platform ocispec.Platform
	// Annotations are set on the entries of the images, not on those of their
	// attestations.
	Annotations map[string]string
	// Optional skips the item with a warning if it does not exist.
	Optional bool
}

// An AssemblyError says which parts of an Assembly do not fit together.
type AssemblyError struct {
	Field string // of Assembly or Keep, if another value of it helps
	Err   error
	way   string
}

func (e *AssemblyError) Error() string { return e.Err.Error() }

// Is reports whether target is the kind of the error.
func (*AssemblyError) Is(target error) bool { return target == hint.Usage }

func (e *AssemblyError) Unwrap() error { return e.Err }

// Hint returns what to do, or "".
func (e *AssemblyError) Hint() string { return e.way }

func invalid(way, format string, args ...any) error {
	return &AssemblyError{Err: fmt.Errorf(format, args...), way: way}
}

// conflict makes an error that another value of a field of [Assembly] or [Keep] avoids.
func conflict(field, format string, args ...any) error {
	return &AssemblyError{Field: field, Err: fmt.Errorf(format, args...)}
}

// A part is an entry of the index that is being made.
type part struct {
	Child
	entry  Entry  // what Identify says of it
	from   string // the reference or digest that messages show
	base   bool   // an entry of Base
	source int    // the position of its item, -1 for the base
	loose  bool   // an attestation of the base whose subject the base lacks
}

// runs reports whether p is an image with a complete platform.
func (p *part) runs() bool { return p.entry.Kind == KindImage && p.entry.Placed() }

func (p *part) attests() bool { return p.entry.Kind == KindAttestation }

func (p *part) key() string { return platform.Key(p.entry.Platform) }

// imagesOf returns the images among parts, and their platforms.
func imagesOf(parts []*part) (images []*part, of []ocispec.Platform) {
	for _, p := range parts {
		if p.runs() {
			images, of = append(images, p), append(of, p.entry.Platform)
		}
	}
	return images, of
}

// keysOf returns the platforms of the images among parts, for messages.
func keysOf(parts []*part) (keys []string) {
	images, _ := imagesOf(parts)
	for _, p := range images {
		keys = append(keys, p.key())
	}
	return keys
}

// Create makes the index. Its children are lazy and read under ctx. If the only item is
// an index and no option changes it, Create returns that index with its bytes and digest.
//
// Create reports all errors of a step at once: references that do not exist, platforms
// that contradict their declaration ([ErrMismatch]), and parts that do not fit together
// ([*AssemblyError]).
func (a Assembly) Create(ctx context.Context, s Source) (v1.ImageIndex, error) {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	parts, whole, err := a.collect(ctx, s)
	if err != nil || whole != nil {
		return whole, err
	}
	// What is added to a base is chosen first, since the base stays.
	if a.Base != nil && len(a.Items) > 0 {
		if parts, err = a.selected(ctx, parts); err != nil {
			return nil, err
		}
		a.Select = nil
	}
	// Replace and Remove change the base before Select chooses among all parts.
	// Attestations follow last, when it is certain which subjects stay.
	if a.Base != nil {
		if parts, err = a.onto(ctx, parts); err != nil {
			return nil, err
		}
	}
	if parts, err = a.selected(ctx, parts); err != nil {
		return nil, err
	}
	if err := unique(parts); err != nil {
		return nil, err
	}
	parts = followed(parts)
	like, err := a.like()
	if err == nil {
		err = a.annotate(parts)
	}
	if err != nil {
		return nil, err
	}
	if like.MediaType, err = a.mediaType(ctx, parts, like); err != nil {
		return nil, err
	}
	return indexOf(like, inOrder(parts))
}

// inOrder sorts parts: first the images by platform, each with the attestations that
// describe it, then all other entries. Images of one platform keep their order.
func inOrder(parts []*part) []Child {
	images := map[string]bool{}
	for _, p := range parts {
		images[p.Descriptor.Digest.String()] = p.runs()
	}
	var children, others []Child
	for _, p := range parts {
		if p.runs() || p.attests() && images[p.Descriptor.Annotations[annotationReferenceDigest]] {
			children = append(children, p.Child)
		} else {
			others = append(others, p.Child)
		}
	}
	return append(arrange(children), others...)
}

// collect reads the items, up to maxAtOnce at once, and returns their parts in the order
// of the items. whole is the index to return unchanged, if that is all that is asked. A
// panic in one item becomes the error of that item.
func (a *Assembly) collect(ctx context.Context, s Source) (all []*part, whole v1.ImageIndex, err error) {
	found := make([][]*part, len(a.Items))
	errs := make([]error, len(a.Items))
	indexes := make([]v1.ImageIndex, len(a.Items))
	permits := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, item := range a.Items {
		permits <- struct{}{}
		wg.Go(func() {
			defer func() { <-permits }()
			errs[i] = guard.Do(func() (err error) { found[i], indexes[i], err = a.resolve(ctx, s, item); return err })
			note(found[i], i, item.Annotations)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if !errors.Is(err, ErrNotFound) {
			continue
		}
		if errs[i] = invalid("check the name and the tag", "%w", err); a.IgnoreMissing || a.Items[i].Optional {
			errs[i] = nil
			a.Log.WarnContext(ctx, "skipped an image that does not exist", "image", a.Items[i].Ref)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	if a.unchanging() && indexes[0] != nil {
		return nil, indexes[0], nil
	}
	all = slices.Concat(found...)
	if len(all) == 0 && a.Base == nil {
		return nil, nil, invalid("", "none of the images exists")
	}
	return all, nil, nil
}

// note sets the annotations of an item on its images. It copies the map, which belongs to
// the manifest that was read.
func note(parts []*part, source int, annotations map[string]string) {
	for _, p := range parts {
		if p.source = source; !p.attests() && len(annotations) > 0 {
			own := map[string]string{}
			maps.Copy(own, p.Descriptor.Annotations)
			maps.Copy(own, annotations)
			p.Descriptor.Annotations = own
		}
	}
}

// unchanging reports whether no option changes the only item.
func (a *Assembly) unchanging() bool {
	return len(a.Items) == 1 && a.Items[0].Platform.OS == "" && len(a.Items[0].Annotations) == 0 && a.Base == nil && len(a.Select) == 0 && a.Type == "" && len(a.Annotations) == 0 && len(a.ChildAnnotations) == 0
}

// followed drops attestations whose subjects are not among parts, and repeated ones. An
// attestation of the base that had no subject there stays, since no option removed its
// subject.
func followed(parts []*part) []*part {
	subjects, seen := map[string]bool{}, map[v1.Hash]bool{}
	for _, p := range parts {
		if !p.attests() {
			subjects[p.Descriptor.Digest.String()] = true
		}
	}
	return slices.DeleteFunc(parts, func(p *part) bool {
		if !p.attests() || p.loose {
			return false
		}
		again := seen[p.Descriptor.Digest]
		seen[p.Descriptor.Digest] = true
		return again || !subjects[p.Descriptor.Annotations[annotationReferenceDigest]]
	})
}

// unique returns an error for each platform that has images from two sources. Several
// images of one platform from the same source are allowed, because there are indexes that
// list them.
func unique(parts []*part) error {
	first := map[string]*part{}
	var errs []error
	images, _ := imagesOf(parts)
	for _, p := range images {
		other, there := first[p.key()]
		if !there {
			first[p.key()] = p
		} else if other.source != p.source {
			errs = append(errs, conflict("Items", "%s twice: %s and %s", p.key(), other.name(), p.name()))
		}
	}
	return errors.Join(errs...)
}

// name returns the name of a part for messages, with its digest unless the name has one.
func (p *part) name() string {
	if p.base || strings.Contains(p.from, "@") {
		return p.from
	}
	return p.from + " (" + p.Descriptor.Digest.String() + ")"
}
