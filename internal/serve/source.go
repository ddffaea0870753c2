package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/mabuild/mabuild/manifest"
)

// maxReads is the number of manifests and configs that one page reads. An index can list
// 10,000 manifests, and a page has many indexes.
const maxReads = 2000

// errReads says that a page would read more than maxReads.
var errReads = fmt.Errorf("the page reads at most %d manifests, and this one is beyond", maxReads)

// A source is the [manifest.Source] of one repository for one page. A reference is a tag
// or a digest. Each manifest and config is compared with its digest.
type source struct {
	store      *Store
	repository string
	reads      *atomic.Int64 // those of the whole page
}

var (
	_ manifest.Source         = (*source)(nil)
	_ manifest.ReferrerLister = (*source)(nil)
	_ manifest.Fetcher        = fetcher{}
)

// take counts one more read.
func (s *source) take() error {
	if s.reads.Add(1) > maxReads {
		return errReads
	}
	return nil
}

// absentAs returns manifest.ErrNotFound for content that the store does not have, and
// other errors as they are.
func absentAs(what string, err error) error {
	var e *Error
	if errors.As(err, &e) && (e.Code == "MANIFEST_UNKNOWN" || e.Code == "BLOB_UNKNOWN") {
		return fmt.Errorf("%s: %w", what, manifest.ErrNotFound)
	}
	return err
}

// Resolve returns the descriptor of a manifest, of which it reads only the media type.
func (s *source) Resolve(_ context.Context, ref string) (v1.Descriptor, error) {
	m, err := s.store.Manifest(s.repository, ref)
	if err != nil {
		return v1.Descriptor{}, absentAs(ref, err)
	}
	defer m.Close() //nolint:errcheck // only read
	h, err := v1.NewHash(m.Digest.String())
	return v1.Descriptor{MediaType: types.MediaType(m.MediaType), Digest: h, Size: m.Size}, err
}

// Get reads a manifest.
func (s *source) Get(ctx context.Context, ref string) (manifest.Content, error) {
	d, raw, err := s.read(ctx, ref)
	if err != nil {
		return nil, err
	}
	return manifest.Open(d, raw, fetcher{ctx, s})
}

// read reads a manifest and verifies it.
func (s *source) read(ctx context.Context, ref string) (d v1.Descriptor, raw []byte, err error) {
	if err := errors.Join(ctx.Err(), s.take()); err != nil {
		return d, nil, err
	}
	m, err := s.store.Manifest(s.repository, ref)
	if err != nil {
		return d, nil, absentAs(ref, err)
	}
	defer m.Close() //nolint:errcheck // only read
	if raw, err = verified(m.Body, m.Digest); err != nil {
		return d, nil, err
	}
	h, err := v1.NewHash(m.Digest.String())
	return v1.Descriptor{MediaType: types.MediaType(m.MediaType), Digest: h, Size: m.Size}, raw, err
}

// verified reads a manifest or config whole and compares it with its digest.
func verified(r io.Reader, d digest.Digest) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > maxManifest:
		return nil, fmt.Errorf("%s: more than %d bytes: %w", d, maxManifest, manifest.ErrMismatch)
	case d.Algorithm().FromBytes(raw) != d:
		return nil, fmt.Errorf("%s: the stored content is damaged: %w", d, manifest.ErrMismatch)
	}
	return raw, nil
}

// Referrers lists what refers to a manifest, by its subject field or by a tag of cosign.
func (s *source) Referrers(ctx context.Context, _ string, subject v1.Hash, cosign ...string) ([]manifest.Referrer, error) {
	if err := s.take(); err != nil {
		return nil, err
	}
	var all []manifest.Referrer
	list, _, err := s.store.Referrers(s.repository, digest.Digest(subject.String()), "", "")
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		h, err := v1.NewHash(d.Digest.String())
		if err != nil {
			continue // of an algorithm that no manifest of the page can have
		}
		all = append(all, manifest.Referrer{Descriptor: v1.Descriptor{
			MediaType: types.MediaType(d.MediaType), Digest: h, Size: d.Size,
			ArtifactType: d.ArtifactType, Annotations: d.Annotations,
		}})
	}
	for _, suffix := range cosign {
		tag := manifest.ReferrersTag(subject) + "." + suffix
		d, err := s.Resolve(ctx, tag)
		switch {
		case err == nil:
			all = append(all, manifest.Referrer{Descriptor: d, Tag: tag})
		case !errors.Is(err, manifest.ErrNotFound):
			return nil, err
		}
	}
	return all, nil
}

// A fetcher reads what a manifest of a source names.
type fetcher struct {
	ctx context.Context // of the request
	*source
}

// Name returns the digest: the page says the repository.
func (f fetcher) Name(h v1.Hash) string { return h.String() }

// Child reads a child of an index. A child that is no manifest may be a blob, as in the
// caches of BuildKit.
func (f fetcher) Child(d v1.Descriptor) (manifest.Content, error) {
	own, raw, err := f.read(f.ctx, d.Digest.String())
	if errors.Is(err, manifest.ErrNotFound) && !isManifest(string(d.MediaType)) {
		own = d
		raw, err = f.Config(d)
	}
	if err != nil {
		return nil, err
	}
	if d.MediaType.IsImage() || d.MediaType.IsIndex() {
		return manifest.Open(own, raw, f)
	}
	return manifest.Uninterpreted(own, raw, func(d v1.Descriptor) (manifest.Content, error) { return manifest.Open(d, raw, f) })
}

// Config reads a config, or another blob of at most maxManifest bytes.
func (f fetcher) Config(d v1.Descriptor) ([]byte, error) {
	if err := errors.Join(f.ctx.Err(), f.take()); err != nil {
		return nil, err
	}
	blob, err := f.store.Blob(digest.Digest(d.Digest.String()))
	if err != nil {
		return nil, absentAs(d.Digest.String(), err)
	}
	defer blob.Close() //nolint:errcheck // only read
	return verified(blob, digest.Digest(d.Digest.String()))
}

// Blob returns an error: a page reads no layer.
func (f fetcher) Blob(d v1.Descriptor) (io.ReadCloser, error) {
	return nil, fmt.Errorf("the layer %s: %w", d.Digest, fs.ErrPermission)
}
