package layerfile

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/internal/stream"
)

// A Writer makes layers, and finds those that were made before. The fields must not change
// after the first call. It is safe for concurrent use.
type Writer struct {
	Work  string       // an existing directory for layers that are not in the cache
	Cache *cache.Cache // nil: all layers are in Work
	Time  time.Time    // of all entries

	Format string // of the compression: gzip or zstd
	Level  int    // gzip: 1 to 9; zstd: 1 to 22

	Alive   func() error  // returns an error once the build is cancelled
	Permits chan struct{} // for layers that are written; nil: no limit
	Written *sync.Map     // digests of layers that were written to the cache; nil: not recorded

	// Recall returns a layer with an [Unmade] entry. Its key has what the entry stands for.
	Recall func(key string, entries []Entry) (v1.Layer, error)

	made once.Memo[string, v1.Layer] // by key
}

// A layerInfo is what the cache stores about a layer, under the key of its entries.
type layerInfo struct {
	Digest v1.Hash `json:"digest"`
	DiffID v1.Hash `json:"diffID"`
	Size   int64   `json:"size"` // of the compressed file, in bytes
}

// Layer returns the layer that has the given entries, sorted by name. It comes from the
// cache if it was made before, and else is written in one pass. Platforms with equal
// entries share one layer. The memory needed does not grow with the files. Entries that
// are sorted already, as those of the static base, are kept and not copied; the caller
// must not change them.
func (w *Writer) Layer(entries []Entry) (v1.Layer, error) {
	if !slices.IsSortedFunc(entries, ByName) {
		entries = slices.Clone(entries)
		slices.SortFunc(entries, ByName)
	}
	key := w.key(entries)
	// The layer is remembered for all platforms, so the context of one of them must not
	// cancel it. The build ends it with alive.
	return w.made.Do(context.Background(), key, func() (v1.Layer, error) { return w.find(key, entries) }) //nolint:forbidigo // the work ends by itself, and its callers have no ctx
}

// find returns the layer from the cache, or writes it while it holds a permit. It looks
// into the cache again when it has the permit: if fifty programs start at once on one
// base, the first one makes the layer and the others find it.
func (w *Writer) find(key string, entries []Entry) (v1.Layer, error) {
	if slices.ContainsFunc(entries, unmade) {
		return w.Recall(key, entries)
	}
	if l := w.load(key, entries); l != nil {
		return l, nil
	}
	if w.Permits != nil {
		w.Permits <- struct{}{}
		defer func() { <-w.Permits }()
		if l := w.load(key, entries); l != nil {
			return l, nil
		}
	}
	return w.make(key, entries)
}

// Load returns the layer that [Writer.Remember] has stored under a key, or nil. If its file
// turns out to be damaged, it is written from the entries that make returns.
func (w *Writer) Load(key string, make func() ([]Entry, error)) v1.Layer {
	l, _ := w.load(key, nil).(*layer)
	if l == nil {
		return nil
	}
	l.again = sync.OnceValues(func() (string, error) {
		entries, err := make()
		if err != nil {
			return "", err
		}
		path, again, err := w.writeFile(entries)
		if err == nil && again != l.layerInfo {
			err = errChanged
		}
		return path, err
	})
	return l
}

// Remember stores under the key of a layer with an [Unmade] entry which layer that is. A
// failure costs time only.
func (w *Writer) Remember(key string, l v1.Layer) {
	digest, err := l.Digest()
	if err != nil {
		return
	}
	diffID, err := l.DiffID()
	if err != nil {
		return
	}
	if size, err := l.Size(); err == nil {
		_ = w.Cache.Store("layer", key, layerInfo{digest, diffID, size})
	}
}

// load returns the layer if the cache has a record of it and a file of the right size,
// else nil. It does not read the file; see cached.
func (w *Writer) load(key string, entries []Entry) v1.Layer {
	var r layerInfo
	if !w.Cache.Load("layer", key, &r) {
		return nil
	}
	if size, err := w.Cache.Size(r.Digest); err != nil || size != r.Size {
		return nil
	}
	return w.cachedLayer(r, entries)
}

// key identifies the bytes of a layer: FormatVersion, the compression, the time of the
// entries, all header fields and the digests of the files. Equal keys must mean equal
// bytes, since the cache returns the stored layer without comparing it with the files.
func (w *Writer) key(entries []Entry) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	_ = enc.Encode([]any{FormatVersion, map[string]any{"Format": w.Format, "Level": w.Level}, w.Time.Unix()}) // a hash never fails
	for _, e := range entries {
		_ = enc.Encode([]any{e.Name, e.Kind, e.Mode, e.UID, e.GID, e.Link, e.Size, e.Content, e.PAX})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// make writes the layer to the cache, or to the work directory if that fails. The file is
// committed before the record is stored, so a record never names a file that has not been
// in the cache. If the build was cancelled it does not try the work directory.
func (w *Writer) make(key string, entries []Entry) (v1.Layer, error) {
	if f, err := w.Cache.Create(); err == nil {
		defer f.Cleanup()
		if r, err := w.write(f, entries); err == nil && f.Commit(r.Digest) == nil {
			if w.Written != nil {
				w.Written.Store(r.Digest, true)
			}
			// If the record cannot be stored, the next run makes the layer again.
			_ = w.Cache.Store("layer", key, r)
			return w.cachedLayer(r, entries), nil
		} else if err := w.Alive(); err != nil {
			return nil, err
		}
	}
	path, r, err := w.writeFile(entries)
	if err != nil {
		return nil, err
	}
	return &layer{layerInfo: r, mediaType: w.MediaType(), path: path}, nil
}

// writeFile writes the layer to a new file in the work directory. The name is unique:
// another build may be sending the same layer from the file that it wrote.
func (w *Writer) writeFile(entries []Entry) (path string, r layerInfo, err error) {
	f, err := os.CreateTemp(w.Work, "layer-*")
	if err != nil {
		return "", r, err
	}
	r, err = w.write(f, entries)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return f.Name(), r, err
}

// write writes the entries to dst as a compressed tar archive. One pass makes the file
// and both digests: the digest of the compressed blob, and the diff ID of the
// uncompressed archive (image-spec, config.md, layer DiffID).
func (w *Writer) write(dst io.Writer, entries []Entry) (_ layerInfo, err error) {
	digest, diffID := sha256.New(), sha256.New()
	var written int64
	count := stream.Writer(func(p []byte) (int, error) {
		written += int64(len(p))
		return len(p), nil
	})
	var size int64
	for _, e := range entries {
		size += e.Size
	}
	zip, err := w.compressor(io.MultiWriter(dst, digest, count), size)
	if err != nil {
		return layerInfo{}, err
	}
	defer func() {
		if err != nil {
			_ = zip.Close() // ends the goroutines of a split
		}
	}()
	// The diff ID is the digest of what goes into the compressor.
	archive := tar.NewWriter(io.MultiWriter(zip, diffID))
	buffer := make([]byte, copied)
	for _, e := range entries {
		if err := w.add(archive, e, buffer); err != nil {
			return layerInfo{}, fmt.Errorf("layer: /%s: %w", e.Name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return layerInfo{}, err
	}
	if err := zip.Close(); err != nil {
		return layerInfo{}, err
	}
	return layerInfo{Digest: sum(digest), DiffID: sum(diffID), Size: written}, nil
}

// copied is the size in bytes of the buffer through which files are copied.
const copied = 128 << 10

// add writes one entry. The content must have the size and the digest of the entry: the
// cache stores the layer under a key with that digest, so other content would be returned
// to every later build.
func (w *Writer) add(archive *tar.Writer, e Entry, buffer []byte) (err error) {
	// The PAX format has no limits for names and sizes. All entries have the same time,
	// and no names of users or groups, so the header depends only on the entry.
	header := &tar.Header{
		Name: e.Name, Typeflag: e.Kind, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Linkname: e.Link, Size: e.Size,
		ModTime: w.Time, Format: tar.FormatPAX, PAXRecords: e.PAX,
	}
	if e.Kind == tar.TypeDir {
		header.Name += "/"
	}
	if err := archive.WriteHeader(header); err != nil || e.Kind != tar.TypeReg {
		return err
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	// The copy of a large file stops early if the build is cancelled.
	alive := stream.Reader(func(p []byte) (int, error) {
		if err := w.Alive(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
	content := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(archive, content), alive, buffer)
	switch {
	case err != nil:
		return err
	case n != e.Size || hex.EncodeToString(content.Sum(nil)) != e.Content:
		return errChanged
	}
	return nil
}

// errChanged is returned for a file whose content changed after it was hashed.
var errChanged = errors.New("changed while it was read")

// sum returns the digest of what was written to h, a SHA-256 hash.
func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}
