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

// A store is all places that a reference may name: registries, through one client,
// and the local forms such as oci:DIR.
type store struct {
	client  *registry.Client
	fence   *config.Fence // of local places that a file of a tree names; nil: people name them
	sources *sources
}

// places is the store of the run's one client.
func (a *app) places() store { return a.placesOf(a.client, nil) }

func (a *app) placesOf(client *registry.Client, fence *config.Fence) store {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sources == nil {
		a.sources = &sources{scratch: a.workDir, open: map[string]manifest.Source{}}
		a.ends = append(a.ends, a.sources.close)
	}
	return store{client, fence, a.sources}
}

// sources are the archives that the run reads, so that a compressed one is unpacked
// once.
type sources struct {
	scratch func(context.Context) (dir string, err error)

	mu   sync.Mutex
	open map[string]manifest.Source // by place, without its image
}

// of returns the source that reads a place.
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

// close removes what was unpacked.
func (s *sources) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, source := range s.open {
		_ = source.(io.Closer).Close() // the work directory goes as well
	}
	clear(s.open)
}

var _ mirror.Store = store{}

// localPlace reads a local place that a mirror writes to.
func (s store) localPlace(text string) (local.Place, error) {
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

// within refuses a local place that the file which names it may not name. What a
// template became is known only now.
func (s store) within(text string) error {
	if s.fence == nil {
		return nil
	}
	return s.fence.CheckPlace(text)
}

// source returns where ref is read, and its name there.
func (s store) source(ref string) (manifest.Source, string, error) {
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

func (s store) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return source.Resolve(ctx, name)
}

func (s store) Get(ctx context.Context, ref string) (manifest.Content, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return nil, err
	}
	return source.Get(ctx, name)
}

func (s store) Put(ctx context.Context, ref string, c manifest.Content) error {
	if !local.Is(ref) {
		return s.client.Put(ctx, ref, c)
	}
	return s.PutAll(ctx, ref, c, nil)
}

func (s store) PutAll(ctx context.Context, ref string, c manifest.Content, beside []manifest.Named) error {
	place, err := s.localPlace(ref)
	if err != nil {
		return err
	}
	name := place.Ref()
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

func (s store) Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return nil, err
	}
	if r, ok := source.(manifest.ReferrerLister); ok {
		return r.Referrers(ctx, name, subject, cosign...)
	}
	return nil, nil
}

func (s store) Tags(ctx context.Context, repo string) ([]string, error) {
	if local.Is(repo) {
		return nil, errors.New("tags can be listed only in a registry")
	}
	return s.client.Tags(ctx, repo)
}

func (s store) Repositories(ctx context.Context, host string) ([]string, error) {
	return s.client.Repositories(ctx, host)
}

func (s store) Images(ctx context.Context, place local.Place) ([]local.Holding, error) {
	source, ref, err := s.source(place.String())
	if err != nil {
		return nil, err
	}
	return source.(interface {
		Images(ctx context.Context, ref string) ([]local.Holding, error)
	}).Images(ctx, ref)
}
