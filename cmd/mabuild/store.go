package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A places gives access to images wherever a reference points: to registries, through one
// client, or to local places such as oci:DIR. It implements [mirror.Store], and is the
// source of base images for builds.
type places struct {
	client  *registry.Client
	fence   *config.Fence // restricts local places from a file of a tree; nil for none
	sources *sources
}

// places returns the store with the run's client and no restriction of paths.
func (a *app) places() places { return a.placesOf(a.client, nil) }

// placesOf returns a store with another client and fence. All stores of the process share
// the open archives.
func (a *app) placesOf(client *registry.Client, fence *config.Fence) places {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sources == nil {
		a.sources = &sources{scratch: a.workDir, open: map[string]manifest.Source{}}
		a.ends = append(a.ends, a.sources.close)
	}
	return places{client, fence, a.sources}
}

// sources are the archives that a run reads. Each is opened once, so that a compressed
// one is unpacked only once. They are safe for concurrent use.
type sources struct {
	scratch func(context.Context) (dir string, err error)

	mu   sync.Mutex
	open map[string]manifest.Source // by place without image name and digest
}

// of returns the source for a place. Other places than archives are cheap to open, and
// are opened each time.
func (s *sources) of(place local.Place) (manifest.Source, error) {
	if s == nil || !isArchive(place.Form) {
		return place.Source()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	place.Name, place.Digest, place.Scratch = "", v1.Hash{}, s.scratch
	if source, ok := s.open[place.String()]; ok {
		return source, nil
	}
	source, err := place.Source()
	if err == nil {
		s.open[place.String()] = source
	}
	return source, err
}

// close closes the archives and removes their unpacked copies.
func (s *sources) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, source := range s.open {
		_ = source.(io.Closer).Close() // the work directory is removed anyway
	}
	clear(s.open)
}

var _ mirror.Store = places{}

// localPlace parses a local place as the target of a mirror. Daemons cannot hold an
// index, and only build and push write to standard output.
func (s places) localPlace(text string) (local.Place, error) {
	place, err := placeOf(text)
	if err == nil {
		err = s.within(text)
	}
	if err != nil {
		return place, invalid(err)
	}
	if place.Form != local.FormLayout && !isArchive(place.Form) {
		return place, usage("use a registry, oci:DIR, oci-archive:FILE or docker-archive:FILE as the target", "%s cannot hold an index", text)
	}
	if place.Path == local.Stdout {
		return place, usage("name a file", "%s: only mabuild build and push can write to stdout", text)
	}
	return place, nil
}

// within returns an error if the fence does not allow a local place. The place is checked
// here because a template is only complete now.
func (s places) within(text string) error {
	if s.fence == nil {
		return nil
	}
	return s.fence.CheckPlace(text)
}

// source returns the source for ref, and the name of the image within it.
func (s places) source(ref string) (manifest.Source, string, error) {
	if !local.Is(ref) {
		return s.client, ref, checkReference(ref)
	}
	place, err := local.Parse(ref)
	if err == nil {
		err = s.within(ref)
	}
	if err != nil {
		return nil, "", invalid(err)
	}
	source, err := s.sources.of(place)
	if err != nil {
		return nil, "", invalid(err)
	}
	return source, place.Ref(), nil
}

// Resolve implements [manifest.Source]. In a registry it costs one HEAD request.
func (s places) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return source.Resolve(ctx, name)
}

// Get implements [manifest.Source].
func (s places) Get(ctx context.Context, ref string) (manifest.Content, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return nil, err
	}
	return source.Get(ctx, name)
}

// Put implements [manifest.Sink].
func (s places) Put(ctx context.Context, ref string, c manifest.Content) error {
	if !local.Is(ref) {
		return s.client.Put(ctx, ref, c)
	}
	return s.PutAll(ctx, ref, c, nil)
}

// PutAll stores c under ref in a local place, together with the contents of beside. An
// archive is written as one file, so everything must be passed in one call. A Docker
// archive holds one image, so for it the others are only further names of c.
func (s places) PutAll(ctx context.Context, ref string, c manifest.Content, beside []manifest.Named) error {
	place, err := s.localPlace(ref)
	if err != nil {
		return err
	}
	name := place.Ref()
	// The name is passed with the content instead.
	place.Name = ""
	sink, err := place.Sink()
	if err != nil {
		return invalid(err)
	}
	if batch, ok := sink.(manifest.BatchPutter); ok {
		return batch.PutAll(ctx, append(slices.Clone(beside), manifest.Named{Ref: name, Content: c})...)
	}
	names := []string{name}
	for _, other := range beside {
		names = append(names, other.Ref)
	}
	return sink.(*local.DockerArchive).PutNames(ctx, c, names...)
}

// Referrers returns the referrers of subject; it is empty for a source without referrers.
func (s places) Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return nil, err
	}
	if r, ok := source.(manifest.ReferrerLister); ok {
		return r.Referrers(ctx, name, subject, cosign...)
	}
	return nil, nil
}

// Tags returns the tags of a repository in a registry.
func (s places) Tags(ctx context.Context, repo string) ([]string, error) {
	if local.Is(repo) {
		return nil, errors.New("tags can be listed only in a registry")
	}
	return s.client.Tags(ctx, repo)
}

// Repositories returns the repositories of a registry, if it lists them.
func (s places) Repositories(ctx context.Context, host string) ([]string, error) {
	return s.client.Repositories(ctx, host)
}

// Images returns the images in a layout or archive.
func (s places) Images(ctx context.Context, place local.Place) ([]local.Holding, error) {
	source, ref, err := s.source(place.String())
	if err != nil {
		return nil, err
	}
	return source.(interface {
		Images(ctx context.Context, ref string) ([]local.Holding, error)
	}).Images(ctx, ref)
}
