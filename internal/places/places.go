// Package places reads and writes images wherever a reference points: in registries,
// through one client, or in local places such as oci:DIR. A [Store] is the one source and
// sink over both, and a [Reference] is parsed once.
//
// The package has no formats and no network code of its own: manifest/local and
// manifest/registry have these.
package places

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A Store gives access to all places. It is the store of a mirror, and the source of
// base images for builds. It is safe for concurrent use.
type Store struct {
	Registry *registry.Client
	// Archives are the archives that a run has open. Several Stores share them.
	Archives *Archives
	// Within rejects local places that may not be used; nil accepts all.
	Within func(place string) error
}

// Archives are the archives that a run reads. Each is opened once, so that a compressed
// one is unpacked only once. They are safe for concurrent use.
type Archives struct {
	// Scratch returns the directory for unpacked archives.
	Scratch func(context.Context) (dir string, err error)

	mu   sync.Mutex
	open map[string]manifest.Source // by place without image name and digest
}

// source returns the source for a place. Other places than archives are cheap to open, and
// are opened each time.
func (a *Archives) source(place local.Place) (manifest.Source, error) {
	if a == nil || !IsArchive(place.Form) {
		return place.Source()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	place.Name, place.Digest, place.Scratch = "", v1.Hash{}, a.Scratch
	if source, ok := a.open[place.String()]; ok {
		return source, nil
	}
	source, err := place.Source()
	if err == nil {
		if a.open == nil {
			a.open = map[string]manifest.Source{}
		}
		a.open[place.String()] = source
	}
	return source, err
}

// Close closes the archives and removes their unpacked copies.
func (a *Archives) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, source := range a.open {
		_ = source.(io.Closer).Close() // the work directory is removed anyway
	}
	clear(a.open)
}

// Target parses a local place as the target of a mirror. Daemons cannot hold an
// index, and only build and push write to standard output.
func (s Store) Target(text string) (local.Place, error) {
	place, err := ParseLocal(text)
	if err == nil {
		err = s.within(text)
	}
	if err != nil {
		return place, &hint.Error{Kind: hint.Usage, Err: err}
	}
	if place.Form != local.FormLayout && !IsArchive(place.Form) {
		return place, hint.New(hint.Usage, "use a registry, oci:DIR, oci-archive:FILE or docker-archive:FILE as the target", "%s cannot hold an index", text)
	}
	if place.Path == local.Stdout {
		return place, hint.New(hint.Usage, "name a file", "%s: only mabuild build and push can write to stdout", text)
	}
	if IsArchive(place.Form) {
		if err := outfile.Check(place.Path); err != nil {
			return place, hint.New(hint.Usage, "create the directory, and name a file in it", "%s: %w", text, err)
		}
	}
	return place, nil
}

// within returns an error if a local place may not be used. The place is checked
// here because a template is only complete now.
func (s Store) within(text string) error {
	if s.Within == nil {
		return nil
	}
	return s.Within(text)
}

// Source returns the source for ref, and the name of the image within it.
func (s Store) Source(ref string) (manifest.Source, string, error) {
	if !local.Is(ref) {
		return s.Registry, ref, CheckReference(ref)
	}
	place, err := local.Parse(ref)
	if err == nil {
		err = s.within(ref)
	}
	if err != nil {
		return nil, "", &hint.Error{Kind: hint.Usage, Err: err}
	}
	source, err := s.Archives.source(place)
	if err != nil {
		return nil, "", &hint.Error{Kind: hint.Usage, Err: err}
	}
	return source, place.Ref(), nil
}

// Resolve implements [manifest.Source]. In a registry it costs one HEAD request.
func (s Store) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	source, name, err := s.Source(ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return source.Resolve(ctx, name)
}

// Get implements [manifest.Source].
func (s Store) Get(ctx context.Context, ref string) (manifest.Content, error) {
	source, name, err := s.Source(ref)
	if err != nil {
		return nil, err
	}
	return source.Get(ctx, name)
}

// Put implements [manifest.Sink].
func (s Store) Put(ctx context.Context, ref string, c manifest.Content) error {
	return s.PutAll(ctx, manifest.Named{Ref: ref, Content: c})
}

// PutAll stores all contents, in their order. If the last one is for a local place, all are
// for that place and are stored in one step: an archive is written as one file. A Docker
// archive holds one image, so for it the others are only further names of the last.
func (s Store) PutAll(ctx context.Context, all ...manifest.Named) error {
	if len(all) == 0 {
		return nil
	}
	last := all[len(all)-1]
	if !local.Is(last.Ref) {
		for _, one := range all {
			if err := s.Registry.Put(ctx, one.Ref, one.Content); err != nil {
				return err
			}
		}
		return nil
	}
	all = slices.Clone(all)
	var place local.Place
	for i := range all {
		var err error
		if place, err = s.Target(all[i].Ref); err != nil {
			return err
		}
		all[i].Ref = place.Ref()
	}
	names := []string{all[len(all)-1].Ref}
	for _, one := range all[:len(all)-1] {
		names = append(names, one.Ref)
	}
	place.Name, place.Digest = "", v1.Hash{} // the names are those of the contents
	sink, err := place.Sink()
	if err != nil {
		return &hint.Error{Kind: hint.Usage, Err: err}
	}
	if batch, ok := sink.(manifest.BatchPutter); ok {
		return batch.PutAll(ctx, all...)
	}
	return sink.(interface {
		PutNames(context.Context, manifest.Content, ...string) error
	}).PutNames(ctx, last.Content, names...)
}

// Referrers returns the referrers of subject; it is empty for a source without referrers.
func (s Store) Referrers(ctx context.Context, ref string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	source, name, err := s.Source(ref)
	if err != nil {
		return nil, err
	}
	if r, ok := source.(manifest.ReferrerLister); ok {
		return r.Referrers(ctx, name, subject, cosign...)
	}
	return nil, nil
}

// List returns the tags of a repository, the repositories of a registry (its host with a
// slash at the end; many registries do not list them), or the images of a local place, which
// also have a digest.
func (s Store) List(ctx context.Context, of string) ([]local.Holding, error) {
	if local.Is(of) {
		source, ref, err := s.Source(of)
		if err != nil {
			return nil, err
		}
		return source.(interface {
			Images(ctx context.Context, ref string) ([]local.Holding, error)
		}).Images(ctx, ref)
	}
	var names []string
	var err error
	if host, whole := strings.CutSuffix(of, "/"); whole {
		names, err = s.Registry.Repositories(ctx, host)
	} else {
		names, err = s.Registry.Tags(ctx, of)
	}
	list := make([]local.Holding, len(names))
	for i, name := range names {
		list[i].Name = name
	}
	return list, err
}

// ParseLocal parses a local place to write to. An archive named /dev/stdout or
// /proc/self/fd/1 is treated like "-": if the archive goes to standard output, nothing
// else may be printed there.
func ParseLocal(text string) (local.Place, error) {
	place, err := local.Parse(text)
	if err == nil && IsArchive(place.Form) && isStdout(place.Path) {
		place.Path = local.Stdout
	}
	return place, err
}

// isStdout reports whether path leads to this process's standard output and is a pipe or
// device. A regular file does not count: it is replaced as a whole, even if standard
// output is redirected to it.
func isStdout(path string) bool {
	there, err := os.Stat(path)
	if err != nil || !outfile.Streams(path) {
		return false
	}
	out, err := os.Stdout.Stat()
	return err == nil && os.SameFile(there, out)
}

// IsArchive reports whether a form is a single file.
func IsArchive(form string) bool {
	return form == local.FormArchive || form == local.FormDockerArchive
}
