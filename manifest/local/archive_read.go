package local

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/stream"
)

// This file reads tar files in place. The headers are read once, and blobs are then read
// at their offsets, so that an archive of any size needs neither memory nor a second
// copy.

// A tarFile is a tar file whose headers were read once. It gives random access to its
// files, which is why an archive cannot be read from a pipe.
type tarFile struct {
	file  string         // the path of the archive
	index *ocispec.Index // index.json of an OCI archive, else nil
	at    map[string]extent
	links map[string]string // by the name of the link: the name that it leads to

	content  *os.File // open during the scan; longer only if borrowed
	size     int64
	borrowed bool // content is the decompressed file, which unpacked owns and closes
}

// close ends the scan. A borrowed file stays open for its blobs.
func (t *tarFile) close() {
	if !t.borrowed {
		_ = t.content.Close() // nothing was written
	}
}

// section opens a part of the tar file. An archive is opened anew for each, so that no
// file stays open between reads. The decompressed file may have no name any more, so it
// is shared; each section reads at its own offset.
func (t *tarFile) section(e extent) (io.ReadCloser, error) {
	if t.borrowed {
		return io.NopCloser(io.NewSectionReader(t.content, e.offset, e.size)), nil
	}
	f, err := os.Open(t.file)
	if err != nil {
		return nil, err
	}
	return stream.WithClose(io.NewSectionReader(f, e.offset, e.size), f.Close), nil
}

// An extent is the offset and the size of a regular file in a tar file, in bytes.
type extent struct{ offset, size int64 }

// scan reads the headers of the archive and index.json.
func (a *ociArchive) scan(ctx context.Context) (*tarFile, error) {
	t, err := a.unpacked.open(ctx, a.File, a.String(), a.Scratch)
	if err != nil {
		return nil, err
	}
	defer t.close()
	raw, err := t.bytes(ocispec.ImageIndexFile)
	if err != nil {
		return nil, in(a.String(), err)
	}
	if t.index, err = parseIndex(raw); err != nil {
		return nil, in(a.String(), err)
	}
	return t, nil
}

// in says which place an error is about.
func in(where string, err error) error { return placed{fmt.Errorf("%s: %w", where, err)} }

// placed is an error whose text has the place that it is about.
type placed struct{ error }

func (p placed) Unwrap() error { return p.error }

// NamedIn reports whether err itself says that it is about the place, as errors about
// files do.
func (p Place) NamedIn(err error) bool {
	if p.Path == "" {
		return false
	}
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, new(placed)):
		return true
	case errors.As(err, &file):
		return strings.Contains(file.Path, p.Path)
	case errors.As(err, &link):
		return strings.Contains(link.Old, p.Path) || strings.Contains(link.New, p.Path)
	}
	return false
}

// openTar opens a regular file and returns its size. where names it in messages. A file
// that does not exist or is empty is [manifest.ErrNotFound].
func openTar(file, where string) (*os.File, int64, error) {
	info, err := os.Stat(file) // before opening, since opening a pipe waits for a writer
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, notFound("%s: no such file", where)
	}
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		way := "an archive is read at several positions; save it to a file"
		if info.IsDir() {
			way = "for an OCI layout, write oci:" + file
		}
		return nil, 0, in(where, hint.New(hint.Usage, way, "is not a regular file"))
	}
	if info.Size() == 0 { // mktemp makes such a file
		return nil, 0, notFound("%s: the file is empty", where)
	}
	f, err := os.Open(file)
	return f, info.Size(), err
}

// maxName is the longest name of an archive's entry that is remembered, in bytes.
// blobs/sha512/ and a digest take 141. Longer names belong to no blob, and names of any
// length would let a small archive use much memory.
const maxName = 255

// scan records the extents of regular files, and the links. Entries of other types,
// sparse files, and names that are absolute or lead outside are ignored, since no blob
// can be one. A file that occurs twice, or extends beyond the end of the archive, is
// [manifest.ErrMismatch]: two readers could see different content in such an archive. The
// number of entries is bounded by twice maxBlobs.
func (t *tarFile) scan(ctx context.Context) error {
	f := io.NewSectionReader(t.content, 0, t.size)
	in := tar.NewReader(f)
	for entries := 0; ; entries++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF) && entries > 0:
			return nil
		case err != nil && entries == 0:
			return hint.New(hint.Usage, "only gzip and zstd are supported; decompress other formats first", "not a tar file: %s", err)
		case err != nil:
			return &hint.Error{Err: mismatch("not a tar file, or a broken one: %w", err), Hint: "only gzip and zstd are supported; decompress other formats first"}
		case entries > 2*maxBlobs:
			return fmt.Errorf("more than %d entries", 2*maxBlobs)
		}
		if len(h.Name) > maxName {
			continue
		}
		name := path.Clean(h.Name)
		if path.IsAbs(name) || strings.HasPrefix(name, "..") || sparse(h) || len(h.Linkname) > maxName {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeLink:
			t.links[name] = path.Clean(h.Linkname)
			continue
		case tar.TypeSymlink:
			if !path.IsAbs(h.Linkname) {
				t.links[name] = path.Join(path.Dir(name), h.Linkname) //nolint:gosec // a name in the archive, not of the file system
			}
			continue
		default:
			continue
		}
		// The tar reader does not say where an entry is. It has just read the header, so
		// the position of the reader below is the offset of the content.
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Size > t.size-offset {
			return mismatch("%q is cut short", name)
		}
		if _, twice := t.at[name]; twice {
			return mismatch("%q exists twice", name)
		}
		t.at[name] = extent{offset, h.Size}
	}
}

// follow makes names of the links that lead to a file of the archive over at most eight
// links. docker save writes a layer that occurs twice as a link. Only Docker archives use
// it; in an OCI archive links are ignored.
func (t *tarFile) follow() {
	for name, to := range t.links {
		if _, twice := t.at[name]; twice {
			continue
		}
		for range 8 {
			if e, ok := t.at[to]; ok {
				t.at[name] = e
				break
			}
			to = t.links[to]
		}
	}
}

// sparse reports whether an entry is a sparse file in GNU's PAX format, whose bytes in
// the archive are fewer than its size.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// bytes reads a small file that is not a blob, such as index.json. It is bounded by
// maxManifest and not verified: no digest of it is known.
func (t *tarFile) bytes(name string) ([]byte, error) {
	e, ok := t.at[name]
	switch {
	case !ok:
		return nil, hint.New(hint.Usage, "mabuild, skopeo and buildx write OCI archives; for a Docker archive, write docker-archive:"+t.file, "not an OCI archive: it has no %s", name)
	case e.size > maxManifest:
		return nil, mismatch("%s has %d bytes, more than the limit of %d", name, e.size, maxManifest)
	}
	return io.ReadAll(io.NewSectionReader(t.content, e.offset, e.size))
}

// open implements blobStore.
func (t *tarFile) open(d v1.Descriptor) (io.ReadCloser, error) {
	e, ok := t.at[blobPath(d.Digest)]
	switch {
	case !ok:
		return nil, absent("", d.Digest)
	case e.size != d.Size:
		return nil, mismatch("blob %s has %d bytes, %d are claimed", d.Digest, e.size, d.Size)
	}
	return t.section(e)
}

// has implements blobStore.
func (t *tarFile) has(d v1.Descriptor) bool {
	e, ok := t.at[blobPath(d.Digest)]
	return ok && e.size == d.Size
}
