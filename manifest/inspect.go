package manifest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/manifest/platform"
)

// This file makes the report of an image or index. The order is fixed: first all entries
// are identified, then the wanted ones are selected, and only these are read for details.

// Bounds of what is read of an index.
const (
	maxEntries = 10_000 // entries of one index, and of all nested ones together
	maxAtOnce  = 16     // images that are read concurrently
)

// InspectOptions say what [Inspect] reads. The zero value costs one request for an index
// whose entries have platforms, and two for a single image.
type InspectOptions struct {
	// Sizes adds the size of each image, at one more request for each.
	Sizes bool
	// Referrers reads attestations and lists the referrers of the index and of each
	// image. That is one or two more requests for each, if the source is a
	// [ReferrerLister].
	Referrers bool
	// Platform, if it has an OS, reports only the image that would run there
	// ([platform.Choose]), with its config. If there is none, the error is a
	// [*PlatformError].
	Platform ocispec.Platform
}

// A PlatformError says that no image of a reference runs on the wanted platforms.
type PlatformError struct {
	Ref  string
	Want []ocispec.Platform
	Have []string // in the form of platform.Key
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("%s does not support %s, only %s", e.Ref, platform.Keys(e.Want), list(e.Have))
}

// Inspect reports what ref names. Attestations of an index become notes of their
// subjects, and nested indexes are followed as by [Walk]. Inspect reads a child only if
// its descriptor does not say its platform, or if another child has the same platform,
// since one of them may be an artifact ([Entries]).
func Inspect(ctx context.Context, s Source, ref string, options InspectOptions) (*Report, error) {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := Describe(c)
	if err != nil {
		return nil, err
	}
	i := &inspection{ctx: ctx, source: s, ref: ref, options: options}
	i.report = &Report{Ref: ref, Digest: d.Digest, MediaType: d.MediaType, Platforms: []Runnable{}}
	entries, err := Identified(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if idx, ok := c.(v1.ImageIndex); ok {
		im, err := idx.IndexManifest()
		if err != nil {
			return nil, err
		}
		i.report.Index, i.report.Annotations, i.report.ArtifactType = true, im.Annotations, im.ArtifactType
		if im.Subject != nil {
			i.report.Subject = &im.Subject.Digest
		}
	}
	i.sort(entries)
	if err := i.finish(); err != nil {
		return nil, err
	}
	i.report.tellDoubles()
	return i.report, nil
}

// tellDoubles sets Double of images that have the same platform: the media type and the
// annotations by which they differ.
func (r *Report) tellDoubles() {
	of := map[string][]*Runnable{}
	for i := range r.Platforms {
		if p := &r.Platforms[i]; p.Platform != "" {
			of[p.Platform] = append(of[p.Platform], p)
		}
	}
	for _, group := range of {
		if len(group) == 1 {
			continue
		}
		values := map[string]map[string]bool{} // the values of each annotation in the group
		said := func(p *Runnable) map[string]string {
			all := maps.Clone(p.Annotations)
			if all == nil {
				all = map[string]string{}
			}
			all["mediaType"] = string(p.Type)
			return all
		}
		for _, p := range group {
			for key := range said(p) {
				values[key] = map[string]bool{}
			}
		}
		for key := range values {
			for _, p := range group {
				values[key][said(p)[key]] = true
			}
		}
		for n, p := range group {
			var apart []string
			for _, key := range slices.Sorted(maps.Keys(values)) {
				if value := said(p)[key]; len(values[key]) > 1 && value != "" {
					apart = append(apart, key+"="+value)
				}
			}
			p.Double = fmt.Sprintf("%d of %d for its platform", n+1, len(group))
			if len(apart) > 0 {
				p.Double += ": " + strings.Join(apart, ", ")
			}
		}
	}
}

// An inspection is one call of Inspect.
type inspection struct {
	ctx     context.Context
	source  Source
	ref     string
	options InspectOptions

	report *Report
	images []row
}

// A row is an image that is being added to the report.
type row struct {
	Runnable
	entry        Entry
	attestations []Entry
}

// sort makes a row of each image with its attestations, and puts all other entries into
// the report.
func (i *inspection) sort(entries []Entry) {
	subjects := map[string][]Entry{}
	for _, e := range entries {
		if e.Kind == KindAttestation {
			subjects[e.Subject] = append(subjects[e.Subject], e)
		}
	}
	for _, e := range entries {
		d := e.Descriptor
		switch {
		case e.Kind == KindAttestation && i.report.Index:
		case e.Kind == KindImage:
			s := row{entry: e, attestations: subjects[d.Digest.String()]}
			s.Digest, s.Type, s.Within, s.Annotations = d.Digest, d.MediaType, e.Within, d.Annotations
			s.FromConfig, s.Written = i.report.Index && e.fromConfig(), e.Written
			if e.Platform.OS != "" || e.Platform.Architecture != "" {
				s.Platform = platform.Key(e.Platform)
			}
			if len(s.attestations) > 0 {
				s.Notes = []string{noteAttested}
			}
			i.images = append(i.images, s)
		case i.report.Index:
			i.report.Others = append(i.report.Others, Other{Digest: d.Digest, Type: d.MediaType, ArtifactType: e.Type})
		default:
			i.report.ArtifactType = e.Type
		}
	}
}

// finish reads what the options ask for and completes the report.
func (i *inspection) finish() error {
	if i.options.Platform.OS != "" {
		if err := i.selectPlatform(); err != nil {
			return err
		}
	}
	if i.options.Referrers && (i.report.Index || i.report.ArtifactType != "") {
		// This comes before the images: the first request finds out if the registry has
		// the referrers API, so that the concurrent ones below need not.
		found, err := i.referrers(i.report.Digest, nil)
		if err != nil {
			return err
		}
		i.report.Notes, i.report.Referrers = notes(found), found
	}
	if err := each(i.images, i.detail); err != nil {
		return err
	}
	for _, s := range i.images {
		i.report.Platforms = append(i.report.Platforms, s.Runnable)
	}
	return nil
}

// selectPlatform keeps only the image that runs on the wanted platform.
func (i *inspection) selectPlatform() error {
	have, keys := make([]ocispec.Platform, len(i.images)), make([]string, len(i.images))
	for at, s := range i.images {
		have[at], keys[at] = s.entry.Platform, s.Platform
	}
	at, ok := platform.Choose(i.options.Platform, have)
	if !ok {
		return &PlatformError{Ref: i.ref, Want: []ocispec.Platform{i.options.Platform}, Have: keys}
	}
	i.images = i.images[at : at+1]
	return nil
}

// detail adds to an image what the options ask for. It changes s alone, so that several
// images can be read concurrently.
func (i *inspection) detail(s *row) error {
	if i.options.Sizes || i.options.Platform.OS != "" {
		img, m, err := s.entry.manifest()
		if err == nil {
			s.Size, err = weigh(img, m)
		}
		if err != nil {
			return err
		}
		if i.options.Platform.OS != "" {
			if err := s.entry.isImage(img); err != nil {
				return err
			}
			if s.Image, err = detailOf(img, m); err != nil {
				return err
			}
		}
	}
	if !i.options.Referrers {
		return nil
	}
	found, err := i.referrers(s.Digest, s.attestations)
	s.Notes, s.Referrers = notes(found), found
	return err
}
