package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

// content makes the image or index of a manifest whose digest, size and media
// type are checked against d, and notes where its blobs are.
func (c *Client) content(ctx context.Context, r repository, raw []byte, d v1.Descriptor) (manifest.Content, error) {
	is, err := digestOf(d.Digest.Algorithm, raw)
	if err != nil {
		return nil, err
	}
	if is != d.Digest {
		return nil, mismatch("%s: got digest %s", r.by(d.Digest), is)
	}
	if d.Size != 0 && d.Size != int64(len(raw)) {
		return nil, mismatch("%s: got %d bytes of %d", r.by(d.Digest), len(raw), d.Size)
	}
	found, err := manifest.MediaType(raw, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.by(d.Digest), err)
	}
	own := document{ctx: ctx, client: c, repo: r, raw: raw, digest: is, mediaType: found}
	if found.IsIndex() {
		return newIndex(own)
	}
	return newImage(own)
}

// A document is a manifest that was read and verified.
type document struct {
	ctx       context.Context // under which the rest is read, as Get promises
	client    *Client
	repo      repository
	raw       []byte
	digest    v1.Hash
	mediaType types.MediaType
}

func (d *document) MediaType() (types.MediaType, error) { return d.mediaType, nil }
func (d *document) RawManifest() ([]byte, error)        { return slices.Clone(d.raw), nil }
func (d *document) Digest() (v1.Hash, error)            { return d.digest, nil }
func (d *document) Size() (int64, error)                { return int64(len(d.raw)), nil }

// An image is the lazy [v1.Image] of a manifest in a registry.
type image struct {
	document
	parsed *v1.Manifest
	config func() ([]byte, error)
}

var _ v1.Image = (*image)(nil)

func newImage(d document) (*image, error) {
	m, err := v1.ParseManifest(bytes.NewReader(d.raw))
	if err != nil {
		return nil, mismatch("%s: %w", d.repo.by(d.digest), err)
	}
	img := &image{document: d, parsed: m}
	img.config = sync.OnceValues(img.readConfig)
	for _, l := range m.Layers {
		d.client.known.note(d.repo, l.Digest)
	}
	d.client.known.note(d.repo, m.Config.Digest)
	return img, nil
}

func (i *image) Manifest() (*v1.Manifest, error)     { return i.parsed.DeepCopy(), nil }
func (i *image) ConfigName() (v1.Hash, error)        { return i.parsed.Config.Digest, nil }
func (i *image) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(i) }
func (i *image) RawConfigFile() ([]byte, error)      { return i.config() }
func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	digest, err := partial.DiffIDToBlob(i, h)
	if err != nil {
		return nil, err
	}
	return i.LayerByDigest(digest)
}

// Layers returns the layers in the order of the manifest.
func (i *image) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.parsed.Layers))
	for at, d := range i.parsed.Layers {
		layers[at] = i.layer(at, d)
	}
	return layers, nil
}

// LayerByDigest returns a layer, or the config as one.
func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if h == i.parsed.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for at, d := range i.parsed.Layers {
		if d.Digest == h {
			return i.layer(at, d), nil
		}
	}
	return nil, fmt.Errorf("%s: has no layer %s", i.repo.by(i.digest), h)
}

// readConfig reads the config once, bounded and verified.
func (i *image) readConfig() ([]byte, error) {
	d := i.parsed.Config
	if d.Size > maxManifest || d.Size < 0 {
		return nil, mismatch("%s: a config of %d bytes", i.repo.by(i.digest), d.Size)
	}
	if raw, err := i.client.cache.Bytes(d.Digest, maxManifest); err == nil && int64(len(raw)) == d.Size {
		return raw, nil
	}
	tries := i.client.wire.retries(i.repo.host)
	for {
		k := i.repo.blob(http.MethodGet, d.Digest)
		raw, _, err := i.client.readAll(i.ctx, i.repo, k)
		if err == nil {
			err = i.client.mislead(i.repo, k.from, i.checkConfig(d, raw))
			if isMisled(err) {
				continue
			}
			return raw, err
		}
		if err := tries.again(i.ctx, err); err != nil {
			return nil, err
		}
	}
}

// checkConfig holds raw against its descriptor and keeps it.
func (i *image) checkConfig(d v1.Descriptor, raw []byte) error {
	is, err := digestOf(d.Digest.Algorithm, raw)
	switch {
	case err != nil:
		return err
	case is != d.Digest:
		return mismatch("%s: got a config of digest %s", i.repo.by(d.Digest), is)
	case int64(len(raw)) != d.Size:
		return mismatch("%s: got a config of %d bytes for %d", i.repo.by(d.Digest), len(raw), d.Size)
	}
	if err := i.client.cachePut(d.Digest, raw); err != nil {
		i.client.wire.log.Debug("not cached", "digest", d.Digest.String(), "err", err)
	}
	return nil
}

func (c *Client) cachePut(h v1.Hash, raw []byte) error {
	if c.cache == nil {
		return nil
	}
	if _, err := c.cache.Size(h); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.cache.Put(h, bytes.NewReader(raw))
}

// blob begins a call about a blob of the repository.
func (r repository) blob(method string, h v1.Hash) *call {
	k := r.call(method, "blobs/"+h.String())
	k.ref, k.want = h.String(), []int{http.StatusOK}
	k.content = method == http.MethodGet
	return k
}
