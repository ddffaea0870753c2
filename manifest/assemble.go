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

// An Assembly says how to make an index of images that exist. The same images
// and options make the same bytes, whatever the order of the items.
type Assembly struct {
	// Items are the images and indexes to take. The images of an index are taken
	// with the attestations that describe them, and nothing else of it.
	Items []Item
	// Base is an index whose entries and annotations stay, but for what Remove
	// names: platforms as platform.Key has them ([platform.All]), or digests. What is not there to
	// be removed is an error. With Replace an item takes the place of the entry
	// that has its platform; else that is an error. The images of indexes within it
	// become its own; what is not an image, or says no platform, stays, after the
	// images. Its media type, artifactType and subject stay; a Docker list that gets
	// what it cannot hold becomes an OCI index.
	Base    v1.ImageIndex
	Remove  []string
	Replace bool
	// Select leaves only these platforms; each must be there, or with Optional at
	// least one ([platform.All]). A platform without a version stands for all its versions. An image
	// without a platform in its index counts, by its config, where one is missing
	// among the others.
	Select   []ocispec.Platform
	Optional bool
	// Type is the media type of the index. "" means that of the Base, or without one
	// OCI unless all children are Docker's. A Docker list of OCI children is an error: no child is rewritten.
	Type types.MediaType
	// Annotations are set on the index, ChildAnnotations on its entries, by
	// platform as platform.Key has it; a value of nil takes one away. A Docker list
	// has none.
	Annotations      map[string]*string
	ChildAnnotations map[string]map[string]*string
	// AllowMismatch warns where an image's config says another platform than was
	// declared, in place of failing.
	AllowMismatch bool
	// TrustPlatforms does not read images whose platform is declared.
	TrustPlatforms bool
	// IgnoreMissing leaves out what does not exist, and says so. At least one
	// item must be there.
	IgnoreMissing bool
	// Log gets the warnings; nil is silent.
	Log *slog.Logger
}

// An Item is an image to take into an index.
type Item struct {
	Ref string
	// Platform is what the image is declared to be for, as platform.Declared
	// reads it. Without an OS it is what the image says of itself. Of an index
	// the image for that platform is taken, or the only one there is.
	Platform ocispec.Platform
	// Annotations are set on the image's entry.
	Annotations map[string]string
	// Optional leaves it out, and says so, when it does not exist.
	Optional bool
}

// An AssemblyError says what cannot be put together as it was asked for.
type AssemblyError struct {
	Field string // of Assembly or Keep, if another value of it helps
	Err   error
	way   string
}

func (e *AssemblyError) Error() string { return e.Err.Error() }

// Is reports whether target is the kind of the error.
func (*AssemblyError) Is(target error) bool { return target == hint.Usage }

func (e *AssemblyError) Unwrap() error { return e.Err }

// Hint returns the way out, or "".
func (e *AssemblyError) Hint() string { return e.way }

func invalid(way, format string, args ...any) error {
	return &AssemblyError{Err: fmt.Errorf(format, args...), way: way}
}

// conflict makes an error that another value of a field of [Assembly] or [Keep] avoids.
func conflict(field, format string, args ...any) error {
	return &AssemblyError{Field: field, Err: fmt.Errorf(format, args...)}
}

// A part is an entry of the index in the making.
type part struct {
	Child
	entry  Entry  // what it is
	from   string // where it comes from, for people
	base   bool
	source int  // the position of its item, -1 of the base
	loose  bool // an attestation of the base that describes nothing in it
}

// runs reports whether p is an image for a platform that is known.
func (p *part) runs() bool { return p.entry.Kind == KindImage && p.entry.Placed() }

func (p *part) attests() bool { return p.entry.Kind == KindAttestation }

func (p *part) key() string { return platform.Key(p.entry.Platform) }

// Create makes the index. Its children are lazy and read under ctx. One index as
// the only item, with nothing asked to be changed, is returned as it is, with its
// digest. Every complaint is reported at once: what does not exist, is declared
// wrongly ([ErrMismatch]), or does not fit together ([*AssemblyError]).
func (a Assembly) Create(ctx context.Context, s Source) (v1.ImageIndex, error) {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	parts, whole, err := a.collect(ctx, s)
	if err != nil || whole != nil {
		return whole, err
	}
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

// inOrder sorts parts: images by platform, doubles as they were, each with what describes
// it, and then what is not an image.
func inOrder(parts []*part) []Child {
	images := map[string]bool{}
	for _, p := range parts {
		images[p.Descriptor.Digest.String()] = p.runs()
	}
	var children, others []Child
	for _, p := range parts {
		if p.runs() || p.attests() && images[p.Descriptor.Annotations[AnnotationReferenceDigest]] {
			children = append(children, p.Child)
		} else {
			others = append(others, p.Child)
		}
	}
	return append(arrange(children), others...)
}

// collect reads the items, several at once. whole is the index that is to be
// taken as it is.
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

// note sets the annotations of an item on its images.
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

// unchanging reports whether nothing is asked that changes the only item.
func (a *Assembly) unchanging() bool {
	return len(a.Items) == 1 && a.Items[0].Platform.OS == "" && len(a.Items[0].Annotations) == 0 && a.Base == nil && len(a.Select) == 0 && a.Type == "" && len(a.Annotations) == 0 && len(a.ChildAnnotations) == 0
}

// followed leaves out the attestations whose subjects are not among parts, and
// those that are there already. One of the base that never described anything in it stays.
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
		return again || !subjects[p.Descriptor.Annotations[AnnotationReferenceDigest]]
	})
}

// unique complains of every platform that there are images for from two sources. Those
// that one source has stay together.
func unique(parts []*part) error {
	first := map[string]*part{}
	var errs []error
	for _, p := range parts {
		if !p.runs() {
			continue
		}
		other, there := first[p.key()]
		if !there {
			first[p.key()] = p
		} else if other.source != p.source {
			errs = append(errs, invalid("", "%s twice: %s and %s", p.key(), other.name(), p.name()))
		}
	}
	return errors.Join(errs...)
}

// name names a part for people, by its digest where its source has several.
func (p *part) name() string {
	if p.base || strings.Contains(p.from, "@") {
		return p.from
	}
	return p.from + " (" + p.Descriptor.Digest.String() + ")"
}
