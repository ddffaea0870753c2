package build

import (
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// layer is a layer file, in the cache or in the work directory.
type layer struct {
	layerInfo
	compression Compression
	cache       *cache.Cache
	path        string                 // "": in the cache
	own         bool                   // this run wrote it there
	again       func() (string, error) // makes one that the cache lost, once
}

// written are the layers that a run wrote to the cache.
type written struct{ digests sync.Map }

func (w *written) add(h v1.Hash) {
	if w != nil {
		w.digests.Store(h, true)
	}
}

func (w *written) has(h v1.Hash) bool {
	if w == nil {
		return false
	}
	_, ok := w.digests.Load(h)
	return ok
}

// cachedLayer is a layer in the cache.
func (w *layers) cachedLayer(r layerInfo, entries []entry) *layer {
	return &layer{layerInfo: r, compression: w.compression, cache: w.cache, own: w.written.has(r.Digest), again: sync.OnceValues(func() (string, error) {
		path, again, err := w.writeFile(entries)
		if err == nil && again != r {
			err = errChanged
		}
		return path, err
	})}
}

func (l *layer) Digest() (v1.Hash, error)            { return l.layerInfo.Digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.layerInfo.DiffID, nil }
func (l *layer) Size() (int64, error)                { return l.layerInfo.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.compression.mediaType(), nil }

// Compressed opens the layer's file. One that the cache lost or broke is made
// again first.
func (l *layer) Compressed() (io.ReadCloser, error) {
	if l.path == "" {
		if r, err := l.cached(); err == nil {
			return r, nil
		}
		path, err := l.again()
		if err != nil {
			return nil, err
		}
		return os.Open(path)
	}
	return os.Open(l.path)
}

// cached opens the cache's file after it has proved to be whole; not one that this
// run wrote, which is held against its digest as it is read, once.
func (l *layer) cached() (io.ReadCloser, error) {
	r, size, err := l.cache.Get(l.layerInfo.Digest)
	if err != nil || l.own && size == l.layerInfo.Size {
		return r, err
	}
	_, err = io.Copy(io.Discard, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	r, _, err = l.cache.Get(l.layerInfo.Digest)
	return r, err
}

func (l *layer) Uncompressed() (io.ReadCloser, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return rootfs.Uncompress(r)
}
