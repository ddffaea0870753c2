package records

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/gocache"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/manifest"
)

// GoCacheType is the artifactType of the manifest of a compile cache, and the media type of
// its layer.
const GoCacheType = "application/vnd.mabuild.gocache.v1+tar+zstd"

// maxGoCache bounds a compile cache in the repository, in bytes.
const maxGoCache = 1 << 30

// A goCache is a cache of the go command for one release of Go and one platform.
type goCache struct {
	fill  sync.Once
	tag   string
	dir   string // "": it cannot be used
	since time.Time
	mu    sync.Mutex // held while it is stored
}

// sharedName is the file in a cache that lists what the repository has.
const sharedName = "mabuild.shared"

// GoCache returns a directory that the go command uses as its cache when it compiles for a
// platform with a release of Go, or "" for its usual one. If the directory has no entries,
// those that other machines have stored are read.
func (r *Repository) GoCache(ctx context.Context, release string, p ocispec.Platform) string {
	if !r.Compile || release == "" {
		return ""
	}
	tag := "gocache-" + release + "-" + strings.ReplaceAll(platformOf(p), "/", "-")
	found, _ := r.caches.LoadOrStore(tag, &goCache{tag: tag})
	c, _ := found.(*goCache)
	c.fill.Do(func() {
		c.since = time.Now()
		// No other process fills the directory meanwhile.
		dir, release, err := r.goCacheDir(ctx, tag)
		if err != nil {
			r.Log.DebugContext(ctx, "no compile cache: "+err.Error())
			return
		}
		defer release()
		if c.dir = dir; gocache.Empty(dir) {
			r.readGoCache(ctx, c)
		}
	})
	return c.dir
}

// goCacheDir makes the directory of a compile cache, and locks it until release. Entries that
// were read with less trust are not used with more, so the keys are in its name.
func (r *Repository) goCacheDir(ctx context.Context, tag string) (dir string, release func(), err error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", r.Name, r.whoCompiles()))
	name := fmt.Sprintf("%s-%x", tag, sum[:8])
	if r.Cache != nil {
		if dir, release, err = r.Cache.Claim(ctx, "gocache", name); err == nil || ctx.Err() != nil {
			return dir, release, err
		}
	}
	dir = filepath.Join(r.Work, name)
	return dir, func() {}, os.MkdirAll(dir, 0o700)
}

// whoCompiles returns the keys of which one must have signed a compile cache. Who signs
// records vouches for what the cache decides, so its own key is the only one by default.
func (r *Repository) whoCompiles() []ed25519.PublicKey {
	if r.Key == nil || len(r.Trust) > 0 {
		return r.Trust
	}
	own, _ := r.Key.Public().(ed25519.PublicKey)
	return []ed25519.PublicKey{own}
}

// readGoCache fills a compile cache from the repository. It warns of an error.
func (r *Repository) readGoCache(ctx context.Context, c *goCache) {
	if r.down.Load() != nil {
		return
	}
	ref := r.Name + ":" + c.tag
	content, err := r.Client.Get(ctx, ref)
	switch {
	case errors.Is(err, manifest.ErrNotFound) || ctx.Err() != nil:
		return
	case err != nil:
		r.warn(ctx, "read gocache", "the compile cache cannot be read: "+err.Error())
		return
	}
	files, err := r.unpack(c, content)
	switch {
	case Untrusted(err):
		r.warn(ctx, "untrusted gocache", "the compile cache is not used, since no trusted key has signed "+ref)
	case err != nil && ctx.Err() == nil:
		r.warn(ctx, "invalid gocache", fmt.Sprintf("%s is not used: %v", ref, err))
	default:
		c.share(files)
	}
}

// unpack checks the manifest of a compile cache and unpacks it.
func (r *Repository) unpack(c *goCache, content manifest.Content) ([]gocache.File, error) {
	raw, err := content.RawManifest()
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	img, ok := content.(v1.Image)
	switch {
	case !ok || m.ArtifactType != GoCacheType || len(m.Layers) != 1 || m.Layers[0].MediaType != GoCacheType:
		return nil, errors.New("it is not a compile cache")
	case m.Layers[0].Size > maxGoCache:
		return nil, fmt.Errorf("it has %d bytes", m.Layers[0].Size)
	}
	text, err := r.signedCache(c, m)
	if _, err := verify(m, r.whoCompiles(), text, err); err != nil {
		return nil, err
	}
	sum, err := v1.NewHash(m.Layers[0].Digest.String())
	if err != nil {
		return nil, err
	}
	l, err := img.LayerByDigest(sum)
	if err != nil {
		return nil, err
	}
	compressed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	archive, err := rootfs.Uncompress(compressed)
	if err != nil {
		return nil, err
	}
	files, err := gocache.Unpack(archive, c.dir, c.since)
	return files, errors.Join(err, archive.Close())
}

// signedCache returns what the signature of a compile cache covers.
func (r *Repository) signedCache(c *goCache, m ocispec.Manifest) ([]byte, error) {
	l := m.Layers[0]
	return r.scoped("compile cache 1", c.tag, l.MediaType, l.Digest, l.Size)
}

// share remembers which files the repository has.
func (c *goCache) share(files []gocache.File) {
	var text strings.Builder
	for _, f := range files {
		text.WriteString(f.Name + "\n")
	}
	_ = os.WriteFile(filepath.Join(c.dir, sharedName), []byte(text.String()), 0o600) // lost: it is stored again
}

// StoreGoCaches stores the caches that builds have used, if at least a fifth of what they
// used is new. An error is logged once.
func (r *Repository) StoreGoCaches(ctx context.Context) {
	r.caches.Range(func(_, found any) bool {
		c, _ := found.(*goCache)
		if c.dir == "" || !r.Write || r.down.Load() != nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		if err := r.storeGoCache(ctx, c); err != nil && ctx.Err() == nil {
			r.warn(ctx, "write gocache", "the compile cache cannot be written: "+err.Error())
		}
		return true
	})
}

// storeGoCache is StoreGoCaches for one cache.
func (r *Repository) storeGoCache(ctx context.Context, c *goCache) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	used, err := gocache.Used(c.dir, c.since)
	if err != nil {
		return err
	}
	shared, _ := os.ReadFile(filepath.Join(c.dir, sharedName)) // missing: none
	known := map[string]bool{}
	for name := range strings.Lines(string(shared)) {
		known[strings.TrimSpace(name)] = true
	}
	var all, fresh int64
	for _, f := range used {
		all += f.Size
		if !known[f.Name] {
			fresh += f.Size
		}
	}
	if fresh*5 < all || all == 0 {
		return nil
	}
	file, err := os.CreateTemp(r.Work, "gocache-*")
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(file.Close(), os.Remove(file.Name())) }() // was read to its end, or is useless
	sum := sha256.New()
	compressed, err := zstd.NewWriter(io.MultiWriter(file, sum), zstd.WithWindowSize(4<<20))
	if err != nil {
		return err
	}
	if err := errors.Join(gocache.Pack(compressed, c.dir, used), compressed.Close()); err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err == nil && size > maxGoCache {
		err = fmt.Errorf("it has %d bytes", size)
	}
	if err != nil {
		return err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: GoCacheType,
		Config:      ocispec.DescriptorEmptyJSON,
		Layers:      []ocispec.Descriptor{{MediaType: GoCacheType, Digest: digest.NewDigestFromBytes(digest.SHA256, sum.Sum(nil)), Size: size}},
		Annotations: map[string]string{},
	}
	text, err := r.signedCache(c, m)
	if err := r.sign(&m, text, err); err != nil {
		return err
	}
	content, err := open(m, func() (io.ReadCloser, error) { return os.Open(file.Name()) })
	if err != nil {
		return err
	}
	r.Log.DebugContext(ctx, "storing the compile cache", "tag", c.tag, "size", size, "new", fresh, "used", all)
	if err := r.Client.Put(ctx, r.Name+":"+c.tag, content); err != nil {
		return err
	}
	c.share(used)
	return nil
}
