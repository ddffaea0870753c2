package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/manifest"
)

// An ociLayout is what [Layout] returns.
type ociLayout struct {
	Dir string

	// stored has the digest (v1.Hash) of each blob that this layout has verified or
	// written. It saves the reading of base layers that many images share.
	stored sync.Map
	links  links
}

const (
	marker  = ocispec.ImageLayoutFile
	layout1 = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`
	temp    = outfile.Temp   // prefix of temporary files
	stale   = 24 * time.Hour // age at which a temporary file has no owner any more
)

// String returns the layout in the form that [Parse] reads.
func (l *ociLayout) String() string { return FormLayout + ":" + l.Dir }

// Close does nothing: no file stays open.
func (*ociLayout) Close() error { return nil }

// Resolve returns the descriptor of what ref names.
func (l *ociLayout) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	im, err := l.index()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return pick(ctx, l.String(), im, l, ref)
}

// Get returns what ref names. No file stays open between reads.
func (l *ociLayout) Get(ctx context.Context, ref string) (manifest.Content, error) {
	d, err := l.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := read(ctx, l, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return c, nil
}

// Put stores content and makes ref name it. Entries of other names stay. The directory is
// made if it does not exist. A directory that has other files and is not a layout is
// refused. Existing blobs are read and kept if their digests are right; broken ones are
// replaced.
func (l *ociLayout) Put(ctx context.Context, ref string, content manifest.Content) error {
	return l.PutAll(ctx, manifest.Named{Ref: ref, Content: content})
}

// PutAll stores the blobs of all contents and then changes index.json once. Blobs are
// written without a lock, since their names are their digests: two writers of one blob
// write the same bytes. Only the change of index.json is locked.
func (l *ociLayout) PutAll(ctx context.Context, all ...manifest.Named) error {
	entries, err := describe(all)
	if err != nil {
		return err
	}
	if err := l.prepare(); err != nil {
		return err
	}
	// All manifests and configs are read before the first blob is written. If a child is
	// missing in its source, the Put fails before it has changed anything but the
	// directory and the marker.
	w := walk{ctx: ctx, stored: func(d v1.Descriptor) (manifest.Content, error) { return read(ctx, l, d) }}
	for _, e := range entries {
		if err := w.add(e.content); err != nil {
			return err
		}
	}
	// Four blobs at once keep a disk or a source busy; the first error cancels the
	// others, whose temporary files are removed.
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, b := range w.blobs {
		group.Go(func() error { return guard.Do(func() error { return l.store(inner, b) }) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.name(ctx, entries)
}

// prepare makes the directory a layout or refuses it.
func (l *ociLayout) prepare() error {
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	// A source tree from elsewhere can contain a layout with links. Writing through them
	// would change files outside the layout, so they are refused.
	for _, name := range []string{ocispec.ImageBlobsDir, filepath.Join(ocispec.ImageBlobsDir, "sha256"), filepath.Join(ocispec.ImageBlobsDir, "sha512"), marker, ocispec.ImageIndexFile} {
		if info, err := os.Lstat(filepath.Join(l.Dir, name)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return placed{hint.New(hint.Build, "remove the link, or use another directory", "%s in %s is a link, but a layout is not written through links", name, l.Dir)}
		}
	}
	path := filepath.Join(l.Dir, marker)
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		return nil
	}
	if err := l.check(); err != nil {
		return err
	}
	return l.mark(path)
}

// check refuses a directory that is neither empty nor a layout: a mistyped path must not
// fill a home directory with blobs.
func (l *ociLayout) check() error {
	if info, err := os.Stat(l.Dir); err == nil && !info.IsDir() {
		return placed{hint.New(hint.Build, "use an empty or new directory", "%s is not a directory", l.Dir)}
	}
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == marker || strings.HasPrefix(e.Name(), temp) {
			continue
		}
		// Another process may have made the layout since the directory was read.
		if _, err := os.Stat(filepath.Join(l.Dir, marker)); err == nil {
			return nil
		}
		return placed{hint.New(hint.Build, "use an empty or new directory", "%s is not empty and not an OCI layout", l.Dir)}
	}
	return nil
}

// mark makes the file oci-layout, by which a layout is recognised and which Put locks. A
// hard link creates it complete and only if it does not exist: if a rename replaced the
// file, two processes could hold locks of two different files.
func (l *ociLayout) mark(path string) error {
	f, err := outfile.Create(l.Dir)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := io.WriteString(f, layout1); err != nil {
		return err
	}
	if err := f.Finish(0o644); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.WriteFile(path, []byte(layout1), 0o644) // the file system has no hard links
}

// store stores the blob b unless it exists with the right digest. The content is verified
// while it is copied to a temporary file, which gets its name only afterwards: a blob
// under its name is always complete.
func (l *ociLayout) store(ctx context.Context, b blob) error {
	h := b.desc.Digest
	if _, ok := l.stored.Load(h); ok {
		return nil
	}
	if l.whole(ctx, b.desc) {
		l.stored.Store(h, true)
		return nil
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	v, err := verifying(ctx, r, b.desc)
	if err != nil {
		return err
	}
	dir := filepath.Join(l.Dir, ocispec.ImageBlobsDir, h.Algorithm)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := outfile.Create(l.Dir)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := io.Copy(f, v); err != nil {
		return err
	}
	// The temporary file is in the directory of the layout, so the rename stays on one
	// file system, and sweep finds it after a crash.
	if err := f.Rename(filepath.Join(dir, h.Hex), 0o644); err != nil {
		return err
	}
	l.stored.Store(h, true)
	return nil
}

// whole reports whether the blob that d describes exists and has its digest. It reads the
// whole blob, because a file can be damaged without a change of its size.
func (l *ociLayout) whole(ctx context.Context, d v1.Descriptor) bool {
	r, err := l.open(d)
	if err != nil {
		return false
	}
	defer r.Close() //nolint:errcheck // nothing was written
	v, err := verifying(ctx, r, d)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, v)
	return err == nil
}

// name adds entries to index.json, after all their content was stored. The lock on
// oci-layout spans reading and writing, so that concurrent Puts do not lose each other's
// entries. Readers need no lock, because a rename replaces index.json.
func (l *ociLayout) name(ctx context.Context, entries []entry) error {
	lock := flock.New(filepath.Join(l.Dir, marker), flock.SetFlag(os.O_RDWR))
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer lock.Close() //nolint:errcheck // closing a file that was not written
	l.sweep()
	im, err := l.index()
	if errors.Is(err, manifest.ErrNotFound) {
		im, err = newIndex(), nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		e.into(im)
	}
	raw, err := marshal(im)
	if err != nil {
		return err
	}
	at := filepath.Join(l.Dir, ocispec.ImageIndexFile)
	if old, err := os.ReadFile(at); err == nil && bytes.Equal(old, raw) {
		return nil // programs that watch the directory see no change
	}
	f, err := outfile.Create(l.Dir)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	return f.Rename(at, 0o644)
}

// sweep removes temporary files that a killed process left more than a day ago. Younger
// ones may belong to a Put that is running.
func (l *ociLayout) sweep() {
	left, _ := filepath.Glob(filepath.Join(l.Dir, temp+"*"))
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > stale {
			_ = os.Remove(path) // on failure, a later Put tries again
		}
	}
}

// The rest reads a layout, which may come from somebody else.

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
