package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/stream"
)

// A LayerError says that the content of a layer is invalid: it is not a tar archive, it
// cannot be uncompressed, or the base exceeds a limit.
type LayerError struct {
	Layer v1.Hash
	Err   error
}

func (e *LayerError) Error() string { return fmt.Sprintf("layer %s: %v", e.Layer, e.Err) }

// Is reports whether target is the kind of the error.
func (*LayerError) Is(target error) bool { return target == hint.Content }

func (e *LayerError) Unwrap() error { return e.Err }

// Add applies the next layer, the one above those that were added before. It reads the
// layer to its end, so that a reader that verifies the digest has compared it. It calls
// record with each change, unless record is nil.
//
// An invalid layer is a [*LayerError]. An error of the layer's own reader, such as a
// failed download, is wrapped with the digest of the layer instead. After any error the
// tree must not be used. Add does not retry.
func (t *Tree) Add(l v1.Layer, record func(Change)) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	if err := t.begin(); err != nil {
		return &LayerError{digest, err}
	}
	compressed, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	var failed error // of the reader: the layer itself may be valid
	in := stream.MapError(compressed, func(err error) error {
		failed = err
		return err
	})
	err = t.addFrom(bounded(in, &t.fetched), compressed, record)
	switch {
	case err == nil:
		return nil
	case failed != nil:
		return fmt.Errorf("layer %s: %w", digest, failed)
	}
	return &LayerError{digest, err}
}

// addFrom applies the entries of a layer. It closes c. Both the compressed and the
// uncompressed bytes are counted, since either can be huge for a small count of the
// other.
func (t *Tree) addFrom(in io.Reader, c io.Closer, record func(Change)) (err error) {
	r, err := Uncompress(stream.WithClose(in, c.Close))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	content := bounded(r, &t.read)
	archive, large := tar.NewReader(content), 0
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		// An archive can consist of headers of 1 MiB each. They become garbage faster
		// than a busy machine collects it, so the collector runs after each maxGarbage
		// bytes of them.
		if large += headerSize(h); large > maxGarbage {
			runtime.GC()
			large = 0
		}
		c, err := t.change(h, archive)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		if err := t.apply(*c); err != nil {
			return err
		}
		if record != nil {
			record(*c)
		}
	}
	_, err = io.Copy(io.Discard, content) // the rest after the end of the archive
	return err
}

// maxGarbage is the number of bytes in large headers after which garbage is collected. An
// ordinary base stays far below it.
const maxGarbage = 4 << 20

// headerSize returns the size in bytes of a header that is larger than usual, else 0. Each
// record costs more than its text: a slot of a map, and two strings.
func headerSize(h *tar.Header) int {
	const usual, record = 4 << 10, 96
	size := len(h.Name) + len(h.Linkname)
	for key, value := range h.PAXRecords {
		size += len(key) + len(value) + record
	}
	if size < usual {
		return 0
	}
	return size
}

// ChangeOf returns the change that an entry of a layer makes, without its content, or nil if
// it makes none (image-spec, layer.md, Representing Changes). A file with the prefix .wh. is
// a whiteout.
func ChangeOf(h *tar.Header) (*Change, error) {
	if len(h.Name) > MaxPath || len(h.Linkname) > MaxPath {
		return nil, ErrPath
	}
	name := Clean(h.Name)
	dir, file := path.Split(name)
	hidden, whiteout := strings.CutPrefix(file, ".wh.")
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return nil, nil
	case file == ".wh..wh..opq":
		return &Change{Path: Clean(dir), Hide: HideBelow}, nil
	case whiteout && (hidden == "" || hidden == "." || hidden == ".."):
		return nil, fmt.Errorf("a whiteout %q", file)
	case whiteout:
		return &Change{Path: dir + hidden, Hide: HidePath}, nil
	case name == "":
		return nil, nil
	}
	c := &Change{Path: name, Kind: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid}
	if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
		c.Link = h.Linkname
	}
	return c, nil
}

// change is ChangeOf with the content of a wanted file, which is read here, since the archive
// can be read only once. What an older version of the file costs is given back first.
func (t *Tree) change(h *tar.Header, r io.Reader) (*Change, error) {
	c, err := ChangeOf(h)
	if err != nil || c == nil || c.Hide != HideNothing || !t.wants(*c) {
		return c, err
	}
	if isSparse(h) { // its size is not limited by the size of the layer
		return nil, fmt.Errorf("%q is a sparse file", c.Path)
	}
	if at, ok := t.find(c.Path); ok {
		t.drop(at)
	}
	c.Content, c.Cost, err = t.Content(c.Path, r, Budget-t.used)
	return c, err
}

// isSparse reports whether a file may be larger than its data in the archive. GNU's older
// sparse format is another type flag, whose files are never wanted.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// Replay applies the next layer from changes that record got in [Tree.Add], until next
// returns io.EOF. The limits are those of Add: the changes may come from a damaged file.
// If next fails, its error is returned as it is, and the tree must not be used.
func (t *Tree) Replay(layer v1.Hash, next func() (Change, error)) error {
	if err := t.begin(); err != nil {
		return &LayerError{layer, err}
	}
	for {
		c, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.apply(c); err != nil {
			return &LayerError{layer, err}
		}
	}
}

// bounded reads from r and fails when total, which several readers share, exceeds
// MaxRead.
func bounded(r io.Reader, total *int64) stream.Reader {
	return func(p []byte) (int, error) {
		n, err := r.Read(p)
		if *total += int64(n); *total > MaxRead {
			err = ErrRead
		}
		return n, err
	}
}
