package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	client *registry.Client
	fence  *config.Fence // of local places that a file of a tree names; nil: people name them
}

// places is the store of the run's one client.
func (a *app) places() store { return store{client: a.client} }

var _ mirror.Store = store{}

// place reads a local place that holds whole images.
func (s store) place(text string) (local.Place, error) {
	place, err := placeOf(text)
	if err == nil {
		err = s.within(text)
	}
	if err != nil {
		return place, &usageError{err: err}
	}
	if place.Form != local.FormLayout && place.Form != local.FormArchive {
		return place, usage("mirror to a registry, oci:DIR or oci-archive:FILE", "%s holds single images of one platform", text)
	}
	if place.Form == local.FormArchive && place.Path == local.Stdout {
		return place, usage("name a file", "%s: only mabuild build and push write to standard output", text)
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
		return nil, "", &usageError{err: err}
	}
	source, err := place.Source()
	if err != nil {
		return nil, "", &usageError{err: err}
	}
	return source, place.Ref, nil
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
	place, err := s.place(ref)
	if err != nil {
		return err
	}
	all := append(slices.Clone(beside), manifest.Named{Ref: place.Ref, Content: c})
	place.Ref = ""
	sink, err := place.Sink()
	if err != nil {
		return &usageError{err: err}
	}
	return sink.(manifest.Packer).PutAll(ctx, all...)
}

func (s store) Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	source, name, err := s.source(ref)
	if err != nil {
		return nil, err
	}
	if r, ok := source.(manifest.Referring); ok {
		return r.Referrers(ctx, name, subject, cosign...)
	}
	return nil, nil
}

func (s store) Tags(ctx context.Context, repo string) ([]string, error) {
	if local.Is(repo) {
		return nil, errors.New("a local place has no list of tags")
	}
	return s.client.Tags(ctx, repo)
}

func (s store) Repositories(ctx context.Context, host string) ([]string, error) {
	return s.client.Repositories(ctx, host)
}

func (s store) Local(text string) bool { return local.Is(text) }

func (s store) Names(ctx context.Context, text string) ([]string, error) {
	source, name, err := s.source(text)
	switch {
	case err != nil || strings.HasPrefix(name, "@"):
		return nil, err
	case name != "":
		return []string{name}, nil
	}
	if holder, ok := source.(interface {
		Names(ctx context.Context) ([]string, error)
	}); ok {
		return holder.Names(ctx)
	}
	return nil, nil
}

func (s store) Named(text, name string) string {
	place, err := local.Parse(text)
	if err != nil || place.Ref != "" {
		return text
	}
	if local.Is(name) { // from one place to another the name goes along
		from, err := local.Parse(name)
		if err != nil || from.Ref == "" || strings.HasPrefix(from.Ref, "@") {
			return text
		}
		name = from.Ref
	}
	place.Ref = name
	return place.String()
}

func (s store) Beside(ref string, digest v1.Hash, tag string) string {
	if local.Is(ref) {
		place, err := local.Parse(ref)
		if err != nil {
			return ref
		}
		if place.Ref = tag; tag == "" {
			place.Ref = "@" + digest.String()
		}
		return place.String()
	}
	repo, _, _ := strings.Cut(ref, "@")
	if repo = withoutTag(repo); tag != "" {
		return repo + ":" + tag
	}
	return fmt.Sprintf("%s@%s", repo, digest)
}
