package local

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/claim"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/outfile"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/manifest"
)

// An ociArchive is what [Archive] returns.
type ociArchive struct {
	File string
	Out  io.Writer // if set, each Put writes an archive to it, and File is neither read nor written
	// Scratch returns the directory for temporary files; nil means that of the system.
	Scratch func(context.Context) (dir string, err error)

	links    links
	unpacked unpacked
}

// Close removes temporary files. Content of a compressed archive cannot be read after it.
func (a *ociArchive) Close() error { return a.unpacked.close() }

// String returns the archive in the form that [Parse] reads.
func (a *ociArchive) String() string { return FormArchive + ":" + a.File }

// Resolve returns the descriptor of what ref names. If the file does not exist or is
// empty, the error is [manifest.ErrNotFound]. Each call reads all headers of the tar
// file.
func (a *ociArchive) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return pick(ctx, a.String(), t.index, t, ref)
}

// Get returns what ref names. Blobs are read at their offsets in the archive, and the
// file is opened anew for each: nothing is unpacked, and no file stays open between
// reads. If the archive is replaced meanwhile, a read that finds other bytes fails with
// [manifest.ErrMismatch].
func (a *ociArchive) Get(ctx context.Context, ref string) (manifest.Content, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return nil, err
	}
	d, err := pick(ctx, a.String(), t.index, t, ref)
	if err != nil {
		return nil, err
	}
	c, err := read(ctx, t, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return c, nil
}

// writers has a lock for each archive that this process has written to. File locks do not
// help within a process on all systems.
var writers sync.Map // absolute path to *sync.Mutex

// alone keeps other processes from writing an archive between the reading of its old
// content and its replacement. Otherwise each of two processes would lose what the other
// has added.
//
// The archive itself is locked, so no lock file stays behind. A rename replaces the
// locked file: a process that waited holds the lock of the old file then, finds that the
// name leads to another one, and locks again. If alone created the file to lock it and
// nothing was written, release removes it.
//
// If the file cannot be locked, alone does nothing: either the write that follows reports
// why, or the file system has no locks. On Windows an open file cannot be replaced, so
// nothing is locked there.
func alone(ctx context.Context, file string) (release func(), err error) {
	nothing := func() {}
	if runtime.GOOS == "windows" {
		return nothing, nil
	}
	for {
		_, err := os.Stat(file)
		made := errors.Is(err, fs.ErrNotExist)
		lock := flock.New(file, flock.SetFlag(os.O_CREATE|os.O_RDONLY))
		_, err = lock.TryLockContext(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			_ = lock.Close()
			return nil, context.Cause(ctx)
		} else if err != nil {
			_ = lock.Close()
			return nothing, nil //nolint:nilerr // see above
		}
		if !claim.Stands(lock) {
			_ = lock.Close()
			continue
		}
		return func() {
			if info, err := os.Stat(file); made && err == nil && info.Size() == 0 && claim.Stands(lock) {
				if target, err := filepath.EvalSymlinks(file); err == nil {
					_ = os.Remove(target) // an empty file is not an archive
				}
			}
			_ = lock.Close()
		}, nil
	}
}

// Put writes the archive anew, with content under ref and with all that it held under
// other names.
func (a *ociArchive) Put(ctx context.Context, ref string, content manifest.Content) error {
	return a.PutAll(ctx, manifest.Named{Ref: ref, Content: content})
}

// PutAll writes the archive anew once, with all contents. It reads the old archive and
// lists all blobs first; blobs are copied from the source while the new file is written.
// The lock within the process is taken before that between processes, and both are held
// until the file has its name.
func (a *ociArchive) PutAll(ctx context.Context, all ...manifest.Named) error {
	key, err := filepath.Abs(a.File)
	if err != nil {
		return err
	}
	lock, _ := writers.LoadOrStore(key, new(sync.Mutex))
	// The lock is never removed from the map. There is one for each archive that a
	// process writes.
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	if a.Out == nil && !outfile.Streams(a.File) {
		release, err := alone(ctx, a.File)
		if err != nil {
			return err
		}
		defer release()
	}

	entries, err := describe(all)
	if err != nil {
		return err
	}
	im := newIndex()
	w := walk{ctx: ctx}
	old, err := a.old(ctx)
	if err != nil {
		return err
	}
	if old != nil {
		// A child that an index lists but does not have is looked for in the old archive:
		// a caller may put an index whose images it has put before.
		im = old.index
		w.stored = func(d v1.Descriptor) (manifest.Content, error) { return read(ctx, old, d) }
	}
	for _, e := range entries {
		e.into(im)
		if err := w.add(e.content); err != nil {
			return err
		}
	}
	if err := w.addArchived(ctx, old, im); err != nil {
		return err
	}
	return a.write(ctx, im, w.blobs)
}

// old returns the archive to add to. It is nil if the file does not exist, is empty
// (mktemp makes such a file), or is a device or a pipe. A file of another format is an
// error: it is not overwritten.
func (a *ociArchive) old(ctx context.Context) (*tarFile, error) {
	if a.Out != nil || outfile.Streams(a.File) {
		return nil, nil
	}
	t, err := a.scan(ctx)
	switch {
	case errors.Is(err, manifest.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, &hint.Error{Err: err, Hint: "remove the file, or use another one"}
	case t.borrowed:
		return nil, in(a.String(), hint.New(hint.Usage, "remove the file, or use another one", "the existing file is compressed, but mabuild writes uncompressed archives"))
	}
	return t, nil
}

// addArchived adds to w what the entries of im name in the old archive and was not added
// yet.
func (w *walk) addArchived(ctx context.Context, old *tarFile, im *ocispec.Index) error {
	for _, e := range im.Manifests {
		d, err := descriptor(e)
		if err != nil {
			return err
		}
		if w.seen[d.Digest] {
			continue
		}
		c, err := read(ctx, old, d)
		if err != nil {
			return err
		}
		if err := w.add(c); err != nil {
			return err
		}
	}
	return nil
}

// write writes im and blobs to File or Out.
func (a *ociArchive) write(ctx context.Context, im *ocispec.Index, blobs []blob) error {
	return writeFile(ctx, a.Out, a.File, func(w io.Writer) error { return writeTar(ctx, w, im, blobs) })
}

// writeFile writes to out if it is set, else to file, which appears complete or not at
// all. The write ends when ctx ends.
func writeFile(ctx context.Context, out io.Writer, file string, write func(io.Writer) error) error {
	whole := func(w io.Writer) error { return write(stream.WriteAlive(ctx, w)) }
	if out != nil {
		return whole(out)
	}
	return outfile.Write(file, whole)
}

// writeTar writes a layout as a tar file whose bytes depend on im and blobs alone:
// entries are sorted and have no owner and no time. index.json comes before the blobs, so
// that a reader of the stream knows early which blobs it needs.
func writeTar(ctx context.Context, w io.Writer, im *ocispec.Index, blobs []blob) error {
	slices.SortStableFunc(im.Manifests, func(a, b ocispec.Descriptor) int {
		return cmp.Or(cmp.Compare(nameOf(a), nameOf(b)), cmp.Compare(a.Digest, b.Digest))
	})
	index, err := marshal(im)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	errs := []error{tarBytes(t, marker, []byte(layout1)), tarBytes(t, ocispec.ImageIndexFile, index), tarDir(t, ocispec.ImageBlobsDir)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortFunc(blobs, func(a, b blob) int { return cmp.Compare(a.desc.Digest.String(), b.desc.Digest.String()) })
	algorithm := ""
	for _, b := range blobs {
		if dir := b.desc.Digest.Algorithm; dir != algorithm {
			algorithm = dir
			if err := tarDir(t, path.Join(ocispec.ImageBlobsDir, dir)); err != nil {
				return err
			}
		}
		if err := tarBlob(ctx, t, b); err != nil {
			return err
		}
	}
	return t.Close()
}

// tarHeader begins an entry without an owner, with the time 0. mode and size come from the
// caller, all other fields are constant.
func tarHeader(t *tar.Writer, name string, kind byte, mode, size int64) error {
	return t.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0)})
}

func tarDir(t *tar.Writer, name string) error { return tarHeader(t, name+"/", tar.TypeDir, 0o755, 0) }

func tarBytes(t *tar.Writer, name string, b []byte) error {
	if err := tarHeader(t, name, tar.TypeReg, 0o644, int64(len(b))); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

// tarBlob writes an entry with the content of b, which is opened only now: of all layers one
// is open at a time.
func tarBlob(ctx context.Context, t *tar.Writer, b blob) error {
	if err := tarHeader(t, blobPath(b.desc.Digest), tar.TypeReg, 0o644, b.desc.Size); err != nil {
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	// The content is verified while it is written: tar has a size in the header, and
	// content of another size or digest must fail the Put instead of spoiling the
	// archive.
	v, err := verifying(ctx, r, b.desc)
	if err != nil {
		return err
	}
	_, err = io.Copy(t, v)
	return err
}

// blobPath returns the path of a blob in a layout: blobs/ALGORITHM/HEX. The digest was
// parsed, so the path stays within the layout.
func blobPath(h v1.Hash) string { return path.Join(ocispec.ImageBlobsDir, h.Algorithm, h.Hex) }
