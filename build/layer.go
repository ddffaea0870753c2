package build

import (
	"archive/tar"
	"bytes"
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
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/once"
)

// formatVersion changes when the bytes of a layer with the same entries do, so
// that caches of older versions are passed by.
const formatVersion = 1

// An entry is one file, directory or link of a layer.
type entry struct {
	name    string // no leading slash; a directory ends in none either
	kind    byte   // tar.TypeReg, TypeDir or TypeSymlink
	mode    int64
	uid     int
	gid     int
	link    string
	size    int64
	content string                        // what identifies the bytes: their digest
	open    func() (io.ReadCloser, error) // of a regular file
	pax     map[string]string
}

// inline is an entry whose bytes are at hand.
func inline(name string, mode int64, b []byte) entry {
	sum := sha256.Sum256(b)
	return entry{
		name: name, kind: tar.TypeReg, mode: mode, size: int64(len(b)), content: hex.EncodeToString(sum[:]),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

func byName(a, b entry) int { return strings.Compare(a.name, b.name) }

func directory(name string, mode int64) entry {
	return entry{name: name, kind: tar.TypeDir, mode: mode}
}

// A layers makes layer files, and finds those that were made before.
type layers struct {
	work        string
	cache       *cache.Cache
	time        time.Time
	compression Compression
	alive       func() error  // not nil once nobody wants the layers any more
	permits     chan struct{} // of those that are written at once, for all programs; nil: any number
	written     *written      // to the cache, by this run; nil: nobody keeps account
	reading     *sync.Mutex   // of bases, by all programs; nil: no other reads any

	made once.Memo[string, v1.Layer] // by key
}

// layerInfo is what the cache keeps of a layer that was made.
type layerInfo struct {
	Digest v1.Hash `json:"digest"`
	DiffID v1.Hash `json:"diffID"`
	Size   int64   `json:"size"`
}

// layer returns the layer of the entries, sorted by name: from the cache, if the
// same was made before, else written in one pass. Memory does not grow with it, and
// entries that are sorted already, as the static base's are, are kept and not copied.
// Platforms that share a layer make it once.
func (w *layers) layer(entries []entry) (v1.Layer, error) {
	if !slices.IsSortedFunc(entries, byName) {
		entries = slices.Clone(entries)
		slices.SortFunc(entries, byName)
	}
	key := w.key(entries)
	return w.made.Do(context.Background(), key, func() (v1.Layer, error) { return w.find(key, entries) }) //nolint:forbidigo // the work ends by itself, and its callers have no ctx
}

// find returns the layer from the cache, or makes it when its turn comes: fifty
// programs on one base have it made by the first, and one buffer a turn.
func (w *layers) find(key string, entries []entry) (v1.Layer, error) {
	if l := w.load(key, entries); l != nil {
		return l, nil
	}
	if w.permits != nil {
		w.permits <- struct{}{}
		defer func() { <-w.permits }()
		if l := w.load(key, entries); l != nil {
			return l, nil
		}
	}
	return w.make(key, entries)
}

// load returns the layer if the cache has it, else nil.
func (w *layers) load(key string, entries []entry) v1.Layer {
	var r layerInfo
	if !w.cache.Load("layer", key, &r) {
		return nil
	}
	if size, err := w.cache.Size(r.Digest); err != nil || size != r.Size {
		return nil
	}
	return w.cachedLayer(r, entries)
}

// key identifies what a layer holds: all of its headers, and its files' digests.
func (w *layers) key(entries []entry) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	_ = enc.Encode([]any{formatVersion, w.compression, w.time.Unix()}) // a hash never fails
	for _, e := range entries {
		_ = enc.Encode([]any{e.name, e.kind, e.mode, e.uid, e.gid, e.link, e.size, e.content, e.pax})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// make writes the layer, into the cache if there is one that takes it.
func (w *layers) make(key string, entries []entry) (v1.Layer, error) {
	if f, err := w.cache.Create(); err == nil {
		defer f.Cleanup()
		if r, err := w.write(f, entries); err == nil && f.Commit(r.Digest) == nil {
			w.written.add(r.Digest)
			_ = w.cache.Store("layer", key, r) // it is made again if this was lost
			return w.cachedLayer(r, entries), nil
		} else if err := w.alive(); err != nil {
			return nil, err
		}
	}
	path, r, err := w.writeFile(entries)
	if err != nil {
		return nil, err
	}
	return &layer{layerInfo: r, compression: w.compression, path: path}, nil
}

// writeFile writes the layer to a file of its own in the work directory: another
// build may just be sending the same layer from the file that it wrote.
func (w *layers) writeFile(entries []entry) (path string, r layerInfo, err error) {
	f, err := os.CreateTemp(w.work, "layer-*")
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

// write writes the entries to dst as compressed tar and takes both digests on the
// way.
func (w *layers) write(dst io.Writer, entries []entry) (_ layerInfo, err error) {
	digest, diffID := sha256.New(), sha256.New()
	count := &counter{}
	var size int64
	for _, e := range entries {
		size += e.size
	}
	zip, err := w.compression.writer(io.MultiWriter(dst, digest, count), size)
	if err != nil {
		return layerInfo{}, err
	}
	defer func() {
		if err != nil {
			_ = zip.Close() // it may have others at work
		}
	}()
	archive := tar.NewWriter(io.MultiWriter(zip, diffID))
	buffer := make([]byte, copied)
	for _, e := range entries {
		if err := w.add(archive, e, buffer); err != nil {
			return layerInfo{}, fmt.Errorf("layer: /%s: %w", e.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return layerInfo{}, err
	}
	if err := zip.Close(); err != nil {
		return layerInfo{}, err
	}
	return layerInfo{Digest: sum(digest), DiffID: sum(diffID), Size: count.n}, nil
}

// copied is how much is read of a file at once.
const copied = 128 << 10

func (w *layers) add(archive *tar.Writer, e entry, buffer []byte) (err error) {
	header := &tar.Header{
		Name: e.name, Typeflag: e.kind, Mode: e.mode, Uid: e.uid, Gid: e.gid, Linkname: e.link, Size: e.size,
		ModTime: w.time, Format: tar.FormatPAX, PAXRecords: e.pax,
	}
	if e.kind == tar.TypeDir {
		header.Name += "/"
	}
	if err := archive.WriteHeader(header); err != nil || e.kind != tar.TypeReg {
		return err
	}
	r, err := e.open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	content := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(archive, content), whileAlive{r, w.alive}, buffer)
	switch {
	case err != nil:
		return err
	case n != e.size || hex.EncodeToString(content.Sum(nil)) != e.content:
		return errChanged // what is kept under its key must be what the key says
	}
	return nil
}

// whileAlive ends a long copy when nobody wants it any more.
type whileAlive struct {
	io.Reader
	alive func() error
}

func (r whileAlive) Read(p []byte) (int, error) {
	if err := r.alive(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// errChanged says that a file is not what it was when the build began.
var errChanged = errors.New("changed while it was read")

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
