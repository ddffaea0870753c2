package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
)

// This file reads a layout, which may come from somebody else.

// index reads index.json, at most maxManifest bytes. It has no digest to verify.
func (l *ociLayout) index() (*ocispec.Index, error) {
	if info, err := os.Stat(l.Dir); err == nil && !info.IsDir() {
		return nil, in(l.String(), hint.New(hint.Usage, "for an archive, write oci-archive:"+l.Dir+" or docker-archive:"+l.Dir, "an OCI layout must be a directory"))
	}
	f, size, err := l.file(ocispec.ImageIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("%s: the OCI layout does not exist", l)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if size > maxManifest {
		return nil, mismatch("%s: index.json has %d bytes, more than the limit of %d", l, size, maxManifest)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	im, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return im, nil
}

// open implements blobStore.
func (l *ociLayout) open(d v1.Descriptor) (io.ReadCloser, error) {
	f, size, err := l.file(ocispec.ImageBlobsDir, d.Digest.Algorithm, d.Digest.Hex)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, absent(l.String(), d.Digest)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", l, err)
	case size != d.Size:
		_ = f.Close()
		return nil, mismatch("%s: blob %s has %d bytes, %d are claimed", l, d.Digest, size, d.Size)
	}
	return f, nil
}

// has implements blobStore.
func (l *ociLayout) has(d v1.Descriptor) bool {
	info, err := os.Stat(filepath.Join(l.Dir, ocispec.ImageBlobsDir, d.Digest.Algorithm, d.Digest.Hex))
	return err == nil && info.Mode().IsRegular() && info.Size() == d.Size
}

// file opens a regular file of the layout and returns its size; the caller closes it. A
// layout from elsewhere cannot make the process read a file outside it, because os.Root
// follows links only within it. Nor can it make the process wait for a pipe: the type is
// checked before the file is opened. The file could be replaced in between, so both are
// compared afterwards.
func (l *ociLayout) file(path ...string) (*os.File, int64, error) {
	root, err := os.OpenRoot(l.Dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close() //nolint:errcheck // a directory
	name := filepath.Join(path...)
	info, err := root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, mismatch("%s is not a regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = mismatch("%s was replaced while it was read", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, opened.Size(), nil
}
