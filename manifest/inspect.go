package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// Bounds of what is followed of an index.
const (
	maxDepth   = 4      // indexes within each other
	maxEntries = 10_000 // of all of them
	maxAtOnce  = 16     // images that are read at the same time
)

// A Look says how closely [Inspect] looks. Its zero value costs one request for
// an index and two for a single image.
type Look struct {
	// Sizes adds up what each image weighs: one request more an image.
	Sizes bool
	// Referrers reads attestations and asks what refers to the index and to each
	// image: a request or two more each, where the source is a [Referring].
	Referrers bool
	// Platform, if it has an OS, leaves nothing but the image that would run
	// there, with what its config says. What does not run there is a
	// [*PlatformError].
	Platform ocispec.Platform
}

// A PlatformError says that an image does not run on a platform.
type PlatformError struct {
	Ref  string
	Want []ocispec.Platform
	Have []string // as platform.Key has them
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("%s does not run on %s; it runs on %s", e.Ref, platform.Keys(e.Want), list(e.Have))
}

// Inspect reports what ref names. The attestations of an index are a note on
// their subjects; indexes within the index are followed, four deep. A child
// whose platform the index does not say is read for what its config says.
func Inspect(ctx context.Context, s Source, ref string, look Look) (*Report, error) {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := Describe(c)
	if err != nil {
		return nil, err
	}
	i := &inspection{ctx: ctx, source: s, ref: ref, look: look, seen: map[v1.Hash]bool{}}
	i.report = &Report{Ref: ref, Digest: d.Digest, MediaType: d.MediaType, Platforms: []Runnable{}}
	switch c := c.(type) {
	case v1.ImageIndex:
		i.report.Index = true
		if err := i.index(c, nil, 1); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
	case v1.Image:
		i.images = []*sight{{Runnable: Runnable{Digest: d.Digest, Type: d.MediaType}, open: func() (Content, error) { return c, nil }}}
	default:
		return nil, fmt.Errorf("%s is neither an image nor an index", ref)
	}
	if err := i.finish(); err != nil {
		return nil, err
	}
	return i.report, nil
}

// An inspection is one run of Inspect.
type inspection struct {
	ctx    context.Context
	source Source
	ref    string
	look   Look

	report  *Report
	images  []*sight
	entries int
	seen    map[v1.Hash]bool // indexes
}

// A sight is an image on its way into the report.
type sight struct {
	Runnable
	open         func() (Content, error)
	attestations []func() (Content, error)
	artifact     string // its type, when it turns out to be no image
}

// index lists the entries of idx, which lies within another index, or not.
func (i *inspection) index(idx v1.ImageIndex, within *v1.Hash, depth int) error {
	im, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	if i.entries += len(im.Manifests); i.entries > maxEntries {
		return fmt.Errorf("an index of more than %d entries: %w", maxEntries, ErrMismatch)
	}
	if depth == 1 {
		i.report.Annotations = im.Annotations
	}
	subjects := attestationsOf(idx, im)
	for _, d := range im.Manifests {
		switch {
		case IsAttestation(d):
		case d.MediaType.IsIndex():
			if err := i.nested(idx, d, depth); err != nil {
				return err
			}
		case d.MediaType.IsImage() || d.MediaType == "" && d.Platform != nil:
			i.images = append(i.images, i.sight(idx, d, within, subjects[d.Digest.String()]))
		default:
			i.report.Others = append(i.report.Others, Other{Digest: d.Digest, Type: d.MediaType, ArtifactType: d.ArtifactType})
		}
	}
	return nil
}

// attestationsOf returns how to read the attestations of each image of an index.
func attestationsOf(idx v1.ImageIndex, im *v1.IndexManifest) map[string][]func() (Content, error) {
	subjects := map[string][]func() (Content, error){}
	for _, d := range im.Manifests {
		if IsAttestation(d) {
			subject := d.Annotations[AnnotationReferenceDigest]
			subjects[subject] = append(subjects[subject], func() (Content, error) { return idx.Image(d.Digest) })
		}
	}
	return subjects
}

func (i *inspection) sight(idx v1.ImageIndex, d v1.Descriptor, within *v1.Hash, attestations []func() (Content, error)) *sight {
	s := &sight{attestations: attestations, open: func() (Content, error) { return idx.Image(d.Digest) }}
	s.Digest, s.Type, s.Within, s.Annotations = d.Digest, d.MediaType, within, d.Annotations
	if p := platform.FromV1(d.Platform); p.OS != "" && p.Architecture != "" {
		s.Platform = platform.Key(p)
	} else {
		s.FromConfig = true
	}
	if len(attestations) > 0 {
		s.Notes = []string{noteAttested}
	}
	if d.ArtifactType != "" && !types.MediaType(d.ArtifactType).IsConfig() {
		s.artifact = d.ArtifactType
	}
	return s
}

// nested follows an index within idx, once.
func (i *inspection) nested(idx v1.ImageIndex, d v1.Descriptor, depth int) error {
	if i.seen[d.Digest] {
		return nil
	}
	i.seen[d.Digest] = true
	if depth == maxDepth {
		return fmt.Errorf("indexes within each other, more than %d deep: %w", maxDepth, ErrMismatch)
	}
	inner, err := idx.ImageIndex(d.Digest)
	if err != nil {
		return err
	}
	return i.index(inner, &d.Digest, depth+1)
}

// finish reads what is still to be read, and fills the report.
func (i *inspection) finish() error {
	if err := i.each(i.images, i.identify); err != nil {
		return err
	}
	for _, s := range i.images {
		if s.artifact == "" {
			continue
		}
		if i.report.Index {
			i.report.Others = append(i.report.Others, Other{Digest: s.Digest, Type: s.Type, ArtifactType: s.artifact})
		} else {
			i.report.ArtifactType = s.artifact
		}
	}
	i.images = slices.DeleteFunc(i.images, func(s *sight) bool { return s.artifact != "" })
	if i.look.Platform.OS != "" {
		if err := i.choose(); err != nil {
			return err
		}
	}
	if i.look.Referrers && (i.report.Index || i.report.ArtifactType != "") {
		notes, err := i.notes(i.report.Digest, nil) // the first to learn whether the source knows
		if err != nil {
			return err
		}
		i.report.Notes = notes
	}
	if err := i.each(i.images, i.detail); err != nil {
		return err
	}
	for _, s := range i.images {
		i.report.Platforms = append(i.report.Platforms, s.Runnable)
	}
	return nil
}

// each does something to all images, several at once, and joins what went wrong.
func (i *inspection) each(images []*sight, do func(*sight) error) error {
	errs := make([]error, len(images))
	permits := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for at, s := range images {
		permits <- struct{}{}
		wg.Go(func() {
			defer func() { <-permits }()
			errs[at] = do(s)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// identify finds the platform of an image whose index does not say it, or that
// has no index.
func (i *inspection) identify(s *sight) error {
	if s.Platform != "" || s.artifact != "" {
		return nil
	}
	img, m, err := s.image()
	if err != nil {
		return err
	}
	if s.artifact, err = artifactType(img, m); s.artifact != "" || err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("config of %s: %w", s.Digest, err)
	}
	if p := platform.OfConfig(config); p.OS != "" || p.Architecture != "" {
		s.Platform = platform.Key(p)
	}
	return nil
}

// choose leaves the image that runs on the wanted platform.
func (i *inspection) choose() error {
	var have []ocispec.Platform
	for _, s := range i.images {
		p, err := platform.Parse(s.Platform)
		if err != nil {
			p = ocispec.Platform{}
		}
		have = append(have, p)
	}
	at, ok := platform.Choose(i.look.Platform, have)
	if !ok {
		return &PlatformError{Ref: i.ref, Want: []ocispec.Platform{i.look.Platform}, Have: keysOf(i.images)}
	}
	i.images = i.images[at : at+1]
	return nil
}

func keysOf(images []*sight) []string {
	var keys []string
	for _, s := range images {
		keys = append(keys, s.Platform)
	}
	return keys
}

// detail adds to an image what the look asks for.
func (i *inspection) detail(s *sight) error {
	if i.look.Sizes || i.look.Platform.OS != "" {
		img, m, err := s.image()
		if err == nil {
			s.Size, err = weigh(img, m)
		}
		if err != nil {
			return err
		}
		if i.look.Platform.OS != "" {
			if s.Image, err = detailOf(img, m); err != nil {
				return err
			}
		}
	}
	if !i.look.Referrers {
		return nil
	}
	notes, err := i.notes(s.Digest, s.attestations)
	s.Notes = notes
	return err
}
