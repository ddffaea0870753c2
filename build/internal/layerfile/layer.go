package layerfile

import (
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// A layer is a layer file in the cache or in the work directory. It implements
// [v1.Layer]. The record is known from the start, so only Compressed and Uncompressed
// read the file.
type layer struct {
	layerInfo
	mediaType types.MediaType
	cache     *cache.Cache
	path      string                 // in the work directory; "": in the cache
	own       bool                   // it is one of Writer.Written
	again     func() (string, error) // writes the layer to the work directory, at most once
}

// cachedLayer returns a layer in the cache. Another process may remove or damage the file
// while the layer is in use. The layer is then written again from its entries, and must
// have the same digests and size, since its descriptor has been used already.
func (w *Writer) cachedLayer(r layerInfo, entries []Entry) *layer {
	own := false
	if w.Written != nil {
		_, own = w.Written.Load(r.Digest)
	}
	return &layer{layerInfo: r, mediaType: w.MediaType(), cache: w.Cache, own: own, again: sync.OnceValues(func() (string, error) {
		path, again, err := w.writeFile(entries)
		if err == nil && again != r {
			err = errChanged
		}
		return path, err
	})}
}

// The methods of [v1.Layer] that return metadata never fail and read nothing.
func (l *layer) Digest() (v1.Hash, error)            { return l.layerInfo.Digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.layerInfo.DiffID, nil }
func (l *layer) Size() (int64, error)                { return l.layerInfo.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// Compressed opens the file of the layer, and writes it again first if the cache does not
// have it, or has other bytes.
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

// cached opens the file in the cache. An upload cannot take back bytes that it has sent,
// so the whole file is verified before the first byte is returned. A file of
// Writer.Written that has the right size is not read twice: the reader of the cache
// still compares it with its digest while it is sent.
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

// Uncompressed opens the uncompressed archive of the layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return rootfs.Uncompress(r)
}
