package smoke

import (
	"archive/tar"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// This file writes the files of an image into a directory. Layers of a base are untrusted: an
// os.Root keeps every path inside, and what is written is bounded.

// The bounds of the files of an image.
const (
	maxFiles   = 500_000
	maxContent = 8 << 30 // bytes
	maxLinks   = 40      // symbolic links in a path, as in Linux
)

// An unpacking writes the layers of one image.
type unpacking struct {
	root   *os.Root
	owners bool // set owners, which requires root
	files  int
	bytes  int64
	ours   map[string]bool // paths of the current layer, and the directories above them
}

// unpack writes the files of an image to dir. Devices are left out, since a container gets its
// own. With owners, files belong to whom the image says.
func unpack(ctx context.Context, img v1.Image, dir string, owners bool) (*os.Root, error) {
	if err := os.Chmod(dir, 0o755); err != nil { // the program runs as another user
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	u := &unpacking{root: root, owners: owners}
	err = func() error {
		layers, err := img.Layers()
		if err != nil {
			return err
		}
		for _, l := range layers {
			if err := u.layer(ctx, l); err != nil {
				return err
			}
		}
		// A runtime mounts these.
		for _, name := range []string{"proc", "dev", "tmp"} {
			if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		return u.hosts()
	}()
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// hosts adds /etc/hosts, which a runtime mounts: an image seldom has one, and a program may listen
// on localhost.
func (u *unpacking) hosts() error {
	dir, err := u.real("etc")
	if err == nil {
		err = u.root.MkdirAll(dir, 0o755)
	}
	at := path.Join(dir, "hosts")
	if _, serr := u.root.Stat(at); err != nil || serr == nil {
		return err
	}
	_ = u.root.Remove(at) // a link that leads nowhere
	return u.root.WriteFile(at, []byte("127.0.0.1\tlocalhost\n::1\tlocalhost\n"), 0o644)
}

// layer applies one layer.
func (u *unpacking) layer(ctx context.Context, l v1.Layer) error {
	compressed, err := l.Compressed()
	if err != nil {
		return err
	}
	r, err := rootfs.Uncompress(compressed)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // was opened to read
	u.ours = map[string]bool{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.count(); err != nil {
			return err
		}
		c, err := rootfs.ChangeOf(h)
		switch {
		case err != nil:
			return err
		case c == nil:
			continue
		case c.Hide != rootfs.HideNothing:
			err = u.hide(*c)
		default:
			err = u.write(c.Path, h, archive)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", strconv.Quote(c.Path), err)
		}
	}
}

// hide removes what a whiteout hides of lower layers (image-spec, layer.md, Whiteouts). What
// the own layer has stays, wherever the whiteout stands in it.
func (u *unpacking) hide(c rootfs.Change) error {
	if c.Hide == rootfs.HidePath {
		dir, err := u.real(path.Dir(c.Path))
		if err != nil {
			return err
		}
		return u.lower(path.Join(dir, path.Base(c.Path)))
	}
	at, err := u.real(c.Path)
	if err != nil {
		return err
	}
	return u.below(at)
}

// lower removes what lower layers have at a path and below it.
func (u *unpacking) lower(at string) error {
	if !u.ours[at] {
		return u.root.RemoveAll(at)
	}
	if info, err := u.root.Lstat(at); err != nil || !info.IsDir() {
		return err
	}
	return u.below(at)
}

// below removes what lower layers have in a directory.
func (u *unpacking) below(dir string) error {
	entries, err := fs.ReadDir(u.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err == nil {
			err = u.count()
		}
		if err == nil {
			err = u.lower(path.Join(dir, e.Name()))
		}
	}
	return err
}

// count counts an entry, or a file that a whiteout looks at: a layer may have many whiteouts of
// one directory.
func (u *unpacking) count() error {
	if u.files++; u.files > maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	return nil
}

// write writes one entry.
func (u *unpacking) write(name string, h *tar.Header, content io.Reader) error {
	dir, err := u.real(path.Dir(name))
	if err != nil {
		return err
	}
	if err := u.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	at := path.Join(dir, path.Base(name))
	for p := at; p != "." && !u.ours[p]; p = path.Dir(p) {
		u.ours[p] = true
	}
	info, err := u.root.Lstat(at)
	if err == nil && (h.Typeflag != tar.TypeDir || !info.IsDir()) {
		if h.Typeflag == tar.TypeDir && info.Mode()&fs.ModeSymlink != 0 {
			return nil // a directory never replaces a link to one
		}
		if err := u.root.RemoveAll(at); err != nil {
			return err
		}
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		mode |= h.FileInfo().Mode() & fs.ModeSticky
	case tar.TypeReg:
		if err := u.file(at, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, at); err != nil {
			return err
		}
		return u.own(at, h)
	case tar.TypeLink:
		from, err := u.real(path.Dir(rootfs.Clean(h.Linkname)))
		if err != nil {
			return err
		}
		return u.root.Link(path.Join(from, path.Base(rootfs.Clean(h.Linkname))), at)
	default:
		return nil
	}
	if err := u.own(at, h); err != nil {
		return err
	}
	return u.root.Chmod(at, mode)
}

// file writes the content of a file.
func (u *unpacking) file(at string, content io.Reader) error {
	f, err := u.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(content, maxContent-u.bytes+1))
	if u.bytes += n; err == nil && u.bytes > maxContent {
		err = fmt.Errorf("more than %d GiB", maxContent>>30)
	}
	return errors.Join(err, f.Close())
}

// own sets the owner of a file.
func (u *unpacking) own(at string, h *tar.Header) error {
	const most = 1<<16 - 1 // what a namespace maps
	if !u.owners || h.Uid > most || h.Gid > most {
		return nil
	}
	return u.root.Lchown(at, h.Uid, h.Gid)
}

// real returns a path without symbolic links, which are followed as in the image: an absolute
// one begins at its root. What does not exist is taken as it is.
func (u *unpacking) real(name string) (string, error) { return realPath(u.root, name) }

// realPath is the path of a file in root without symbolic links.
func realPath(root *os.Root, name string) (string, error) {
	at, rest, links := ".", strings.Split(path.Clean("/" + name)[1:], "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := root.Lstat(next)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			at = next // a missing file is reported by who uses it
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many symbolic links")
		}
		target, err := root.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// matches returns an error if a program is for another platform, which this machine may run all
// the same. Scripts are not examined.
func matches(root *os.Root, program string, p ocispec.Platform) error {
	at, err := realPath(root, program)
	if err != nil {
		return err
	}
	f, err := root.Open(at)
	if err != nil {
		return fmt.Errorf("smoke: %s is not in the image", strconv.Quote(program))
	}
	defer f.Close() //nolint:errcheck // was opened to read
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil //nolint:nilerr // its start shows what is wrong with it
	}
	if _, err := crosscompile.Verify(f, p); err != nil {
		return fmt.Errorf("smoke: %s: %w", strconv.Quote(program), err)
	}
	return nil
}
