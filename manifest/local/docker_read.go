package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/manifest"
)

// This file reads Docker archives. They have no manifests and no digests, so both are
// computed, and the digests of files are remembered while the archive does not change.

var _ manifest.Source = (*dockerArchive)(nil)

// Resolve returns the descriptor of the manifest that Get makes. The whole image is read
// once to compute its digests.
func (a *dockerArchive) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	image, err := a.find(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return image.desc, nil
}

// Get returns the image that ref names by a tag of manifest.json or by "@" and its
// digest. An empty ref means the only image.
//
// A Docker archive has no manifest (Docker image specification 1.2). Get makes one that
// names the layers as they are in the file, compressed or not. So its digest differs from
// that of the same image in a registry, and only the digest of the config is the same.
func (a *dockerArchive) Get(ctx context.Context, ref string) (manifest.Content, error) {
	image, err := a.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := read(ctx, image, image.desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return c, nil
}

// String returns the archive in the form that [Parse] reads.
func (a *dockerArchive) String() string { return FormDockerArchive + ":" + a.File }

// Images lists the images of the archive as those of a [Store] are. It reads them for their
// digests.
func (a *dockerArchive) Images(ctx context.Context, ref string) ([]Holding, error) {
	if ref != "" {
		image, err := a.find(ctx, ref)
		if err != nil {
			return nil, err
		}
		asked, _, err := parseRef(ref)
		names := matching(image.RepoTags, asked, func(tag string) []string { return []string{tag} })
		if len(names) == 0 {
			names = append(image.RepoTags, "")
		}
		return []Holding{{names[0], image.desc.Digest}}, err
	}
	t, images, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	var list []Holding
	for _, i := range images {
		image, err := a.saved.describe(ctx, t, i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		for _, tag := range i.RepoTags {
			list = append(list, Holding{tag, image.desc.Digest})
		}
		if len(i.RepoTags) == 0 {
			list = append(list, Holding{"", image.desc.Digest})
		}
	}
	return sortHoldings(list), nil
}

// A savedImage is an entry of manifest.json (Docker image specification 1.2). Config and
// Layers are names of files in the archive.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// find returns the image that ref names, with its manifest. Images are read only if ref
// may name them: with an empty ref and several images the error lists their tags alone.
func (a *dockerArchive) find(ctx context.Context, ref string) (*described, error) {
	name, digest, err := parseRef(ref)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	t, images, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	found := images
	if name != "" {
		found = matching(images, name, func(i savedImage) []string { return i.RepoTags })
	}
	all := make([]*described, len(found))
	if len(found) == 1 || digest != (v1.Hash{}) || name != "" {
		for n, i := range found {
			if all[n], err = a.saved.describe(ctx, t, i); err != nil {
				return nil, fmt.Errorf("%s: %w", a, err)
			}
		}
	}
	if digest != (v1.Hash{}) {
		all = slices.DeleteFunc(all, func(d *described) bool { return d.desc.Digest != digest })
	}
	switch {
	case len(all) == 0 && ref == "":
		return nil, notFound("%s contains no image", a)
	case len(all) == 0:
		return nil, &hint.Error{Err: notFound("no %q in %s", ref, a), Hint: "available images: " + listed(a.String(), savedRefs(images, nil))}
	// Several entries count as one image if the manifests that are made for them are
	// equal.
	case len(all) > 1 && (all[0] == nil || slices.ContainsFunc(all, func(d *described) bool { return d.desc.Digest != all[0].desc.Digest })):
		return nil, several(a.String(), ref, len(all), savedRefs(found, all))
	}
	return all[0], nil
}

// savedRefs returns the references of images for messages: their names and, if they were
// read, their digests.
func savedRefs(images []savedImage, all []*described) []string {
	var refs []string
	for n, i := range images {
		var digest v1.Hash
		if n < len(all) && all[n] != nil {
			digest = all[n].desc.Digest
		}
		for _, tag := range i.RepoTags {
			refs = append(refs, shownRef(tag, digest))
		}
		if len(i.RepoTags) == 0 && digest != (v1.Hash{}) {
			refs = append(refs, shownRef("", digest))
		}
	}
	slices.Sort(refs)
	return refs
}

// scan reads the headers of the archive and manifest.json.
func (a *dockerArchive) scan(ctx context.Context) (*tarFile, []savedImage, error) {
	t, err := a.unpacked.open(ctx, a.File, a.String(), a.Scratch)
	if err != nil {
		return nil, nil, err
	}
	defer t.close()
	t.follow()
	raw, err := t.bytes("manifest.json")
	if err != nil {
		return nil, nil, in(a.String(), hint.New(hint.Usage, "docker save writes Docker archives; for an OCI archive, write oci-archive:"+a.File, "not a Docker archive: it has no manifest.json"))
	}
	var images []savedImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, nil, mismatch("%s: manifest.json: %w", a, err)
	}
	return t, images, nil
}

// saved remembers the digests of the files of an archive while the archive does not
// change: its identity, size and time of modification are the same. Without it each
// Resolve would read all layers. Its lock is held while files are read, so that
// concurrent callers read them once.
type saved struct {
	mu    sync.Mutex
	of    os.FileInfo              // of the archive when files was filled
	files map[string]v1.Descriptor // by the name in the archive
}

// described is an image of a Docker archive with the manifest that was made for it. It is
// the store of that image: the manifest comes from memory, all else from the archive.
type described struct {
	savedImage
	archive  *tarFile
	desc     v1.Descriptor
	manifest []byte
	at       map[v1.Hash]extent // the config and the layers
}

// describe makes the manifest of an image. It reads all its files, unless their digests
// are remembered.
func (s *saved) describe(ctx context.Context, t *tarFile, i savedImage) (*described, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(t.file)
	if err != nil {
		return nil, err
	}
	if s.of == nil || !unchanged(s.of, info) {
		s.of, s.files = info, map[string]v1.Descriptor{}
	}
	image := &described{savedImage: i, archive: t, at: map[v1.Hash]extent{}}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2, Layers: []v1.Descriptor{}}
	if m.Config, err = s.blob(ctx, t, image, i.Config); err != nil {
		return nil, err
	}
	m.Config.MediaType = types.DockerConfigJSON
	for _, name := range i.Layers {
		d, err := s.blob(ctx, t, image, name)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
	}
	if image.manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(image.manifest))
	image.desc = v1.Descriptor{MediaType: m.MediaType, Digest: digest, Size: int64(len(image.manifest))}
	return image, err
}

// blob returns the descriptor of a file of the archive and records where it is. The media
// type is that of a layer; describe replaces it for the config.
func (s *saved) blob(ctx context.Context, t *tarFile, image *described, name string) (d v1.Descriptor, err error) {
	name = path.Clean(name)
	e, ok := t.at[name]
	if !ok {
		return d, mismatch("%q is missing", name)
	}
	if d, ok = s.files[name]; !ok {
		if d, err = describeFile(ctx, t, e); err != nil {
			return d, err
		}
		s.files[name] = d
	}
	image.at[d.Digest] = e
	return d, nil
}

// describeFile reads a file for its digest. The media type follows from the first four
// bytes: a layer is gzip, zstd or not compressed.
func describeFile(ctx context.Context, t *tarFile, e extent) (d v1.Descriptor, err error) {
	f, err := t.section(e)
	if err != nil {
		return d, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	hash := sha256.New()
	in := stream.ReadAlive(ctx, f)
	magic := make([]byte, 4)
	n, err := io.ReadFull(in, magic)
	_, _ = hash.Write(magic[:n]) // a hash never fails
	if err == nil {
		_, err = io.Copy(hash, in)
	}
	if err != nil && e.size >= int64(len(magic)) {
		return d, err
	}
	d = v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: e.size, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}}
	switch first := string(magic); {
	case strings.HasPrefix(first, packedMagic[0]):
		d.MediaType = types.DockerLayer
	case strings.HasPrefix(first, packedMagic[1]):
		d.MediaType = manifest.DockerLayerZStd
	}
	return d, nil
}

// open implements blobStore. The manifest is in no file of the archive.
func (i *described) open(d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest == i.desc.Digest {
		return io.NopCloser(bytes.NewReader(i.manifest)), nil
	}
	if !i.has(d) {
		return nil, absent("", d.Digest)
	}
	return i.archive.section(i.at[d.Digest])
}

// has implements blobStore. It does not report the manifest, which open returns at any time.
func (i *described) has(d v1.Descriptor) bool {
	e, ok := i.at[d.Digest]
	return ok && e.size == d.Size
}
