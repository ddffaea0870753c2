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
	"github.com/mabuild/mabuild/manifest"
)

// An Archive is a tar file of an OCI image layout. Its references are those of
// [Layout].
//
// The file is replaced whole, so that it holds what it held or what it was to
// hold. The same content under the same names makes the same bytes. Within one
// process Puts to one file wait for each other; of several processes the last one
// wins. A link is followed; a device or a pipe is written to and stays.
//
// One that gzip or zstd compressed is read as well, whatever its name: it is unpacked
// into a temporary file, which Close removes.
type Archive struct {
	File string
	Out  io.Writer // written to in place of File, each Put an archive of its own
	// Scratch gives the directory of temporary files; nil is the system's.
	Scratch func(context.Context) (dir string, err error)

	links    links
	unpacked unpacked
}

// Close removes temporary files. What Get returned cannot be read after it.
func (a *Archive) Close() error { return a.unpacked.close() }

var (
	_ manifest.Source = (*Archive)(nil)
	_ manifest.Sink   = (*Archive)(nil)
)

func (a *Archive) String() string { return FormArchive + ":" + a.File }

// Resolve returns the descriptor of what ref names. A file that does not exist
// has nothing in it.
func (a *Archive) Resolve(ctx context.Context, ref string) (v1.Descriptor, error) {
	t, err := a.scan(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return pick(ctx, a.String(), t.index, t, ref)
}

// Get returns what ref names. The file is opened again for each blob, where it
// lies in the archive: nothing is unpacked.
func (a *Archive) Get(ctx context.Context, ref string) (manifest.Content, error) {
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

// writers has a lock for each archive that was written to.
var writers sync.Map // absolute path to *sync.Mutex

// alone keeps other processes from writing an archive between the reading of what it holds
// and its replacement: the one would lose what the other wrote. The file itself is locked;
// who waited for one that was replaced meanwhile begins again. A file that was made for
// this, and is empty still at release, goes. Where nothing can be locked, nothing is: the
// write says what is wrong, or the file system knows no locks. Windows replaces no file
// that is open.
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
					_ = os.Remove(target) // an empty archive is none
				}
			}
			_ = lock.Close()
		}, nil
	}
}

// Put writes the archive anew, with content under ref beside what it held under
// other names.
func (a *Archive) Put(ctx context.Context, ref string, content manifest.Content) error {
	return a.PutAll(ctx, manifest.Named{Ref: ref, Content: content})
}

// PutAll writes the archive anew once, with all contents.
func (a *Archive) PutAll(ctx context.Context, all ...manifest.Named) error {
	key, err := filepath.Abs(a.File)
	if err != nil {
		return err
	}
	lock, _ := writers.LoadOrStore(key, new(sync.Mutex))
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

// old is the archive that is there: nil where there is none, or nothing in it, as
// mktemp leaves a file.
func (a *Archive) old(ctx context.Context) (*tarFile, error) {
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

// addArchived lists what im's entries reach that is in the old archive.
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

func (a *Archive) write(ctx context.Context, im *ocispec.Index, blobs []blob) error {
	return writeFile(ctx, a.Out, a.File, func(w io.Writer) error { return writeTar(ctx, w, im, blobs) })
}

// writeFile has write make the content of file, or what goes to out where there is
// one.
func writeFile(ctx context.Context, out io.Writer, file string, write func(io.Writer) error) error {
	whole := func(w io.Writer) error { return write(whileAlive{ctx, w}) }
	if out != nil {
		return whole(out)
	}
	return outfile.Write(file, whole)
}

// writeTar writes a layout as a tar file whose bytes depend on nothing else.
func writeTar(ctx context.Context, w io.Writer, im *ocispec.Index, blobs []blob) error {
	slices.SortStableFunc(im.Manifests, func(a, b ocispec.Descriptor) int {
		return cmp.Or(cmp.Compare(nameOf(a), nameOf(b)), cmp.Compare(a.Digest, b.Digest))
	})
	index, err := marshal(im)
	if err != nil {
		return err
	}
	t := tarWriter{tar.NewWriter(w)}
	errs := []error{t.bytes(marker, []byte(layout1)), t.bytes(ocispec.ImageIndexFile, index), t.dir(ocispec.ImageBlobsDir)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortFunc(blobs, func(a, b blob) int { return cmp.Compare(a.desc.Digest.String(), b.desc.Digest.String()) })
	algorithm := ""
	for _, b := range blobs {
		if dir := b.desc.Digest.Algorithm; dir != algorithm {
			algorithm = dir
			if err := t.dir(path.Join(ocispec.ImageBlobsDir, dir)); err != nil {
				return err
			}
		}
		if err := t.blob(ctx, b); err != nil {
			return err
		}
	}
	return t.Close()
}

// A tarWriter writes entries that belong to nobody and have no time.
type tarWriter struct{ *tar.Writer }

func (t tarWriter) header(name string, kind byte, mode, size int64) error {
	return t.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0)})
}

func (t tarWriter) dir(name string) error { return t.header(name+"/", tar.TypeDir, 0o755, 0) }

func (t tarWriter) bytes(name string, b []byte) error {
	if err := t.header(name, tar.TypeReg, 0o644, int64(len(b))); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

func (t tarWriter) blob(ctx context.Context, b blob) error {
	if err := t.header(blobPath(b.desc.Digest), tar.TypeReg, 0o644, b.desc.Size); err != nil {
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	v, err := verify(ctx, r, b.desc)
	if err != nil {
		return err
	}
	_, err = io.Copy(t, v)
	return err
}

// blobPath is where a blob lies in a layout.
func blobPath(h v1.Hash) string { return path.Join(ocispec.ImageBlobsDir, h.Algorithm, h.Hex) }
