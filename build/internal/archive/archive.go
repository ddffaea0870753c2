// Package archive takes single files out of an archive that may be hostile.
//
// The kind is found by content, never by name: tar, zip, gzip, xz, zstd, bzip2, and a tar in
// any of the last four. Any other file, and a compressed file that does not hold a tar archive,
// count as an archive of one file without a name.
//
// Nothing is written but the files that were asked for, under names that the caller chooses.
// Size and number of the entries are bounded. An entry that leads out of the archive, and one
// that is neither a regular file, a directory nor a link, make the archive invalid as a whole.
package archive

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/mabuild/mabuild/internal/decompress"
	"github.com/mabuild/mabuild/internal/hint"
)

// The bounds of an archive.
const (
	maxInput   = 512 << 20 // bytes of the archive
	maxOutput  = 2 << 30   // bytes of all that is in it, uncompressed
	maxEntries = 10_000    // files, directories and links
	maxListing = 4 << 20   // bytes of the directory of a zip archive
	maxWindow  = 128 << 20 // bytes that a decompressor may look back
	maxTarget  = 4096      // bytes of the target of a link
	maxLinks   = 40        // links from one to another
)

// A File is a regular file in an archive.
type File struct {
	Name string // in the archive; "" if it is a file without a name
	Mode fs.FileMode
}

// Extract finds the file that each pattern matches, and calls write with its index in
// patterns. A link counts as the file that it leads to. Patterns are globs of doublestar; *
// does not match a slash. The pattern "" matches the only file of the archive.
//
// It is an error if a pattern matches no file or several, or if anything in the archive is
// invalid. write must read all of the content.
func Extract(r io.ReaderAt, size int64, patterns []string, write func(i int, f File, content io.Reader) error) error {
	if size > maxInput {
		return fmt.Errorf("it has %d bytes, more than the limit of %d", size, maxInput)
	}
	a := &reader{at: r, size: size}
	var all []entry
	if err := a.walk(func(e entry, _ io.Reader) error {
		all = append(all, e)
		return nil
	}); err != nil {
		return err
	}
	chosen := make([]int, len(patterns)) // the entry of each pattern
	for i, pattern := range patterns {
		var err error
		if chosen[i], err = choose(all, pattern); err != nil {
			return err
		}
	}
	at := -1
	return (&reader{at: r, size: size}).walk(func(e entry, content io.Reader) error {
		at++
		// Two patterns may match the same file, whose content can be read only once.
		var users []int
		for i, c := range chosen {
			if c == at {
				users = append(users, i)
			}
		}
		switch len(users) {
		case 0:
			return nil
		case 1:
			return write(users[0], File{Name: e.name, Mode: e.mode}, content)
		}
		return fmt.Errorf("%q and %q match the same file, %s", patterns[users[0]], patterns[users[1]], e.name)
	})
}

// Is reports whether a file is an archive or compressed.
func Is(r io.ReaderAt) bool {
	head := make([]byte, headSize)
	n, _ := r.ReadAt(head, 0) // a file may be shorter
	return kindOf(head[:n]) != raw
}

// An entry is a file, directory or link in an archive.
type entry struct {
	name string
	mode fs.FileMode // with the type
	link string      // the entry that a link leads to, from the root of the archive
}

// choose returns the index of the regular file that a pattern matches, or leads to.
func choose(all []entry, pattern string) (int, error) {
	var found []int
	for i, e := range all {
		if e.mode.IsDir() {
			continue
		}
		match := pattern == "" && e.mode.IsRegular()
		if pattern != "" && e.name != "" {
			var err error
			if match, err = doublestar.Match(pattern, e.name); err != nil {
				return 0, fmt.Errorf("%q is not a valid pattern", pattern)
			}
		}
		if match {
			found = append(found, i)
		}
	}
	switch {
	case len(found) > 1 && pattern == "":
		return 0, hint.New(hint.Usage, "choose one in the configuration file: prebuilt: {path: FILE, program: PATTERN}", "it has %d files, and none is chosen: %s", len(found), names(all, found))
	case len(found) > 1:
		return 0, fmt.Errorf("%q matches %d files: %s", pattern, len(found), names(all, found))
	case len(found) == 0 && len(all) == 1 && all[0].name == "":
		return 0, fmt.Errorf("it is a single file, so nothing in it matches %q", pattern)
	case len(found) == 0:
		every := make([]int, len(all))
		for i := range all {
			every[i] = i
		}
		return 0, fmt.Errorf("nothing in it matches %q; it has %s", pattern, cmp.Or(names(all, every), "no files"))
	}
	return follow(all, found[0])
}

// follow returns the regular file that the entry at index i is or leads to.
func follow(all []entry, i int) (int, error) {
	first := all[i].name
	for range maxLinks {
		if all[i].mode.IsRegular() {
			return i, nil
		}
		target := all[i].link
		i = slices.IndexFunc(all, func(e entry) bool { return e.name == target })
		if i < 0 || all[i].mode.IsDir() {
			return 0, fmt.Errorf("%s is a link to %s, which is not a file of the archive", first, target)
		}
	}
	return 0, fmt.Errorf("%s is a link that leads to itself", first)
}

// names returns the names of some entries, shortened.
func names(all []entry, which []int) string {
	const most = 10
	var list []string
	for _, i := range which[:min(len(which), most)] {
		list = append(list, fmt.Sprintf("%.100q", all[i].name))
	}
	if len(which) > most {
		list = append(list, "…")
	}
	return strings.Join(list, ", ")
}

// A kind is what a file begins with.
type kind int

const (
	raw kind = iota
	tarball
	zipped
	compressed
)

// headSize is the size of the header of a tar archive, the longest of all.
const headSize = 512

// kindOf returns the kind of a file from its first bytes.
func kindOf(head []byte) kind {
	for _, k := range []struct {
		magic string
		at    int
		kind  kind
	}{
		{"PK\x03\x04", 0, zipped},
		{"PK\x05\x06", 0, zipped}, // without entries
		{"ustar", 257, tarball},
	} {
		if len(head) >= k.at && bytes.HasPrefix(head[k.at:], []byte(k.magic)) {
			return k.kind
		}
	}
	if decompress.FormatOf(head) != decompress.None {
		return compressed
	}
	return raw
}

// A reader walks through an archive once.
type reader struct {
	at      io.ReaderAt
	size    int64
	entries int
	output  int64 // bytes that were read of what is in it
}

// walk calls visit for each entry, in their order. The content is that of a regular file.
func (a *reader) walk(visit func(entry, io.Reader) error) error {
	in := bufio.NewReaderSize(io.NewSectionReader(a.at, 0, a.size), 1<<16)
	head, err := in.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if kindOf(head) == zipped {
		return a.zip(visit)
	}
	content, err := decompress.Reader(in, maxWindow)
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // only read
	inner := bufio.NewReaderSize(&bounded{content, a}, 1<<16)
	head, err = inner.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return ended(err)
	}
	if kindOf(head) == tarball {
		err = a.tar(inner, visit)
	} else {
		err = visit(entry{mode: 0o755}, inner)
	}
	if err != nil {
		return ended(err)
	}
	// What follows is read as well: the checksums are at the end.
	_, err = io.Copy(io.Discard, inner)
	return ended(err)
}

// ended says in plain words that an archive is cut.
func ended(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends early: %w", err)
	}
	return err
}

// bounded counts what is read of an archive, and fails at the bound.
type bounded struct {
	io.Reader
	of *reader
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.of.output += int64(n); b.of.output > maxOutput {
		return 0, fmt.Errorf("it unpacks to more than the limit of %d bytes", int64(maxOutput))
	}
	return n, err
}

// blockSize is the size of a block of a tar archive, which ends with two that are zero.
const blockSize = 512

// trailing counts the zero bytes at the end of what was read.
type trailing struct {
	io.Reader
	zeros int
}

func (t *trailing) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	rest := bytes.TrimRight(p[:n], "\x00")
	if len(rest) > 0 {
		t.zeros = 0
	}
	t.zeros += n - len(rest)
	return n, err
}

// tar walks through a tar archive. archive/tar takes one that is cut between two entries for
// a whole one.
func (a *reader) tar(in io.Reader, visit func(entry, io.Reader) error) error {
	end := &trailing{Reader: in}
	t := tar.NewReader(end)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) && end.zeros < blockSize {
			return io.ErrUnexpectedEOF
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e := entry{name: h.Name, mode: fs.FileMode(h.Mode & 0o777)}
		hard := h.Typeflag == tar.TypeLink
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
		case tar.TypeDir:
			e.mode |= fs.ModeDir
		case tar.TypeSymlink, tar.TypeLink:
			e.mode |= fs.ModeSymlink
		default:
			return fmt.Errorf("%.200q is neither a file, a directory nor a link", h.Name)
		}
		if err := a.add(e, h.Linkname, hard, t, visit); err != nil {
			return err
		}
	}
}

// add checks an entry, and visits it.
func (a *reader) add(e entry, link string, hard bool, content io.Reader, visit func(entry, io.Reader) error) error {
	if a.entries++; a.entries > maxEntries {
		return fmt.Errorf("it has more than %d entries", maxEntries)
	}
	name, ok := inside("", e.name)
	if !ok {
		return fmt.Errorf("%.200q leads out of the archive", e.name)
	}
	e.name = name
	if e.mode&fs.ModeSymlink != 0 {
		dir := path.Dir(e.name)
		if hard {
			dir = ""
		}
		if e.link, ok = inside(dir, link); !ok {
			return fmt.Errorf("%.200q is a link to %.200q, which leads out of the archive", e.name, link)
		}
	}
	return visit(e, content)
}

// inside returns a path from dir, relative to the root of the archive, and whether it stays
// in it.
func inside(dir, name string) (string, bool) {
	if path.IsAbs(name) || strings.ContainsRune(name, 0) {
		return "", false
	}
	name = path.Join(dir, name)
	return name, name != ".." && !strings.HasPrefix(name, "../")
}

// zip walks through a zip archive. Its directory is bounded before it is read into memory.
func (a *reader) zip(visit func(entry, io.Reader) error) error {
	listing := &metered{ReaderAt: a.at, left: maxListing}
	z, err := zip.NewReader(listing, a.size)
	if err != nil {
		return ended(err)
	}
	listing.left = math.MaxInt64
	for _, f := range z.File {
		if err := a.zipFile(f, visit); err != nil {
			return ended(err)
		}
	}
	return nil
}

// zipFile visits a file of a zip archive.
func (a *reader) zipFile(f *zip.File, visit func(entry, io.Reader) error) error {
	const encrypted = 1
	if f.Flags&encrypted != 0 {
		return fmt.Errorf("%.200q is encrypted", f.Name)
	}
	e := entry{name: strings.ReplaceAll(f.Name, `\`, "/"), mode: f.Mode()}
	if e.mode&fs.ModeType&^(fs.ModeDir|fs.ModeSymlink) != 0 {
		return fmt.Errorf("%.200q is neither a file, a directory nor a link", f.Name)
	}
	if e.mode.IsDir() {
		return a.add(e, "", false, nil, visit)
	}
	content, err := f.Open()
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // only read
	link := ""
	if e.mode&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(content, maxTarget))
		if err != nil {
			return err
		}
		link = string(target)
	}
	return a.add(e, link, false, &bounded{content, a}, visit)
}

// metered reads a bounded number of bytes.
type metered struct {
	io.ReaderAt
	left int64
}

func (m *metered) ReadAt(p []byte, off int64) (int, error) {
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, fmt.Errorf("its directory has more than %d bytes", maxListing)
	}
	return m.ReaderAt.ReadAt(p, off)
}
