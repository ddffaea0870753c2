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
)

// A LayerError says what is wrong with the content of a layer: it is no tar archive,
// it cannot be uncompressed, or it exceeds a bound of its base.
type LayerError struct {
	Layer v1.Hash
	Err   error
}

func (e *LayerError) Error() string { return fmt.Sprintf("layer %s: %v", e.Layer, e.Err) }

// Is reports whether target is the kind of the error.
func (*LayerError) Is(target error) bool { return target == hint.Content }

func (e *LayerError) Unwrap() error { return e.Err }

// Add makes the changes of the next layer and reads it to its end, so that its
// digest is checked where l does so. It gives each change to record, unless that is
// nil. What is wrong with the layer is a [*LayerError], after which the tree is of no
// use; what the layer's reader returns is wrapped with the layer's digest.
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
	in := &bounded{r: compressed, total: &t.fetched}
	err = t.addFrom(in, compressed, record)
	switch {
	case err == nil:
		return nil
	case in.err != nil && !errors.Is(in.err, ErrRead):
		return fmt.Errorf("layer %s: %w", digest, in.err)
	}
	return &LayerError{digest, err}
}

func (t *Tree) addFrom(in *bounded, c io.Closer, record func(Change)) (err error) {
	r, err := Uncompress(struct {
		io.Reader
		io.Closer
	}{in, c})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	content := &bounded{r: r, total: &t.read}
	archive, large := tar.NewReader(content), 0
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		// Large headers become garbage faster than a busy machine collects it.
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
	_, err = io.Copy(io.Discard, content) // what follows the archive's end
	return err
}

// maxGarbage is after how many bytes of headers the garbage that they leave is collected.
// Those of an ordinary base are far below.
const maxGarbage = 4 << 20

// headerSize is about what a header takes beyond the usual.
func headerSize(h *tar.Header) int {
	size := len(h.Name) + len(h.Linkname)
	for key, value := range h.PAXRecords {
		size += len(key) + len(value)
	}
	const usual = 4 << 10
	if size < usual {
		return 0
	}
	return size
}

// change reads an entry; nil is one that changes nothing.
func (t *Tree) change(h *tar.Header, r io.Reader) (*Change, error) {
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
	if !t.wants(*c) {
		return c, nil
	}
	if isSparse(h) { // reading it is not bounded by what the layer has
		return nil, fmt.Errorf("%q is a sparse file", name)
	}
	if at, ok := t.find(name); ok { // what is there is replaced
		t.drop(at)
	}
	var err error
	c.Content, c.Cost, err = t.Content(name, r, Budget-t.used)
	return c, err
}

// isSparse reports whether a file may have more bytes than its archive has of it.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// Replay makes the changes of the next layer as they were recorded, until next
// returns io.EOF. The bounds are those of [Tree.Add].
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

// bounded reads until a total is MaxRead, and remembers why it failed.
type bounded struct {
	r     io.Reader
	total *int64
	err   error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if *b.total += int64(n); *b.total > MaxRead {
		err = ErrRead
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
