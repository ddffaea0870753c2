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

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mabuild/mabuild/manifest"
)

var _ manifest.Source = (*DockerArchive)(nil)

// Resolve returns the descriptor that Get gives its image. The archive is read for
// it.
func (a *DockerArchive) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	c, err := a.Get(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return manifest.Describe(c)
}

// Get returns the image that has the tag ref, or the only one where ref is empty.
// A docker archive has no manifest: the one that the image gets here names the
// layers as they lie in the file, compressed or not, so that its digest is not
// that of the image in the registry it came from.
func (a *DockerArchive) Get(ctx context.Context, ref string) (manifest.Content, error) {
	d, store, err := a.open(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := read(ctx, store, d)
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", FormDockerArchive, a.File, err)
	}
	return c, nil
}

// A savedImage is an entry of manifest.json (Docker image specification 1.2).
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// open finds the image and makes its manifest.
func (a *DockerArchive) open(ctx context.Context, ref string) (d v1.Descriptor, s *savedStore, err error) {
	t, images, err := a.scan(ctx)
	if err != nil {
		return d, nil, err
	}
	where := FormDockerArchive + ":" + a.File
	if ref != "" {
		images = slices.DeleteFunc(images, func(i savedImage) bool {
			return !slices.ContainsFunc(i.RepoTags, func(tag string) bool { return tag == ref || strings.HasSuffix(tag, ":"+ref) })
		})
	}
	switch {
	case len(images) == 0 && ref != "":
		return d, nil, notFound("no %q in %s", ref, where)
	case len(images) == 0:
		return d, nil, notFound("%s holds no image", where)
	case len(images) > 1:
		var refs []string
		for _, i := range images {
			for _, tag := range i.RepoTags {
				refs = append(refs, ":"+tag)
			}
		}
		slices.Sort(refs)
		return d, nil, several(where, len(images), refs)
	}
	s = &savedStore{t: t, at: map[v1.Hash]extent{}}
	if d, err = s.add(ctx, images[0]); err != nil {
		return d, nil, fmt.Errorf("%s: %w", where, err)
	}
	return d, s, nil
}

// scan looks through the archive and reads manifest.json.
func (a *DockerArchive) scan(ctx context.Context) (*tarFile, []savedImage, error) {
	where := FormDockerArchive + ":" + a.File
	f, size, err := openTar(a.File, where)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	t := &tarFile{file: a.File, at: map[string]extent{}}
	if err := t.scan(ctx, f, size); err != nil {
		return nil, nil, in(where, err)
	}
	raw, err := t.bytes(f, "manifest.json")
	if err != nil {
		return nil, nil, &FormatError{where, "no docker archive: it has no manifest.json", "docker save writes such archives; is it oci-archive:" + a.File + "?"}
	}
	var images []savedImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, nil, mismatch("%s: manifest.json: %w", where, err)
	}
	return t, images, nil
}

// A savedStore opens the blobs of an image that docker saved.
type savedStore struct {
	t        *tarFile
	manifest []byte
	digest   v1.Hash
	at       map[v1.Hash]extent
}

// add makes the manifest of an image, for which it reads all of it once.
func (s *savedStore) add(ctx context.Context, i savedImage) (v1.Descriptor, error) {
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2, Layers: []v1.Descriptor{}}
	var err error
	if m.Config, err = s.blob(ctx, i.Config); err != nil {
		return m.Config, err
	}
	m.Config.MediaType = types.DockerConfigJSON
	for _, name := range i.Layers {
		d, err := s.blob(ctx, name)
		if err != nil {
			return d, err
		}
		m.Layers = append(m.Layers, d)
	}
	if s.manifest, err = json.Marshal(m); err != nil {
		return v1.Descriptor{}, err
	}
	s.digest, _, err = v1.SHA256(bytes.NewReader(s.manifest))
	return v1.Descriptor{MediaType: m.MediaType, Digest: s.digest, Size: int64(len(s.manifest))}, err
}

// blob finds the digest of a file of the archive, and whether it is compressed.
func (s *savedStore) blob(ctx context.Context, name string) (v1.Descriptor, error) {
	e, ok := s.t.at[path.Clean(name)]
	if !ok {
		return v1.Descriptor{}, mismatch("%q is not there", name)
	}
	f, err := os.Open(s.t.file)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	hash := sha256.New()
	in := whileReading{ctx, io.NewSectionReader(f, e.offset, e.size)}
	magic := make([]byte, 2)
	n, err := io.ReadFull(in, magic)
	_, _ = hash.Write(magic[:n]) // a hash never fails
	if err == nil {
		_, err = io.Copy(hash, in)
	}
	if err != nil && e.size >= int64(len(magic)) {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: e.size, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}}
	if magic[0] == 0x1f && magic[1] == 0x8b { // gzip
		d.MediaType = types.DockerLayer
	}
	s.at[d.Digest] = e
	return d, nil
}

func (s *savedStore) open(d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest == s.digest {
		return io.NopCloser(bytes.NewReader(s.manifest)), nil
	}
	e, ok := s.at[d.Digest]
	if !ok || e.size != d.Size {
		return nil, mismatch("blob %s is not there", d.Digest)
	}
	f, err := os.Open(s.t.file)
	if err != nil {
		return nil, err
	}
	return closing{io.NewSectionReader(f, e.offset, e.size), f}, nil
}

// whileReading reads until ctx ends.
type whileReading struct {
	ctx context.Context
	io.Reader
}

func (w whileReading) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.Reader.Read(p)
}
