package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/rootfs"
)

// maxUnpacked is the most that a compressed archive may have in it, in bytes.
var maxUnpacked int64 = 64 << 30

// unpacked is the content of a compressed archive, in a temporary file. It is kept as
// long as the archive stays the same file, so that it is unpacked once.
type unpacked struct {
	mu      sync.Mutex
	of      os.FileInfo
	content *os.File
}

// The first bytes of files, by compression: of those that are read, and of others.
var (
	packedMagic = []string{"\x1f\x8b", "\x28\xb5\x2f\xfd"} // gzip, zstd
	otherMagic  = map[string]string{"xz": "\xfd7zXZ\x00", "lz4": "\x04\x22\x4d\x18", "lzip": "LZIP\x01"}
	bzip2Magic  = regexp.MustCompile(`^BZh[1-9]1AY&SY`)
)

// compressed reports whether a file that begins like this has a compression that is
// read; other is the name of one that is not.
func compressed(first string) (read bool, other string) {
	for name, magic := range otherMagic {
		if strings.HasPrefix(first, magic) {
			return false, name
		}
	}
	if bzip2Magic.MatchString(first) {
		return false, "bzip2"
	}
	return slices.ContainsFunc(packedMagic, func(magic string) bool { return strings.HasPrefix(first, magic) }), ""
}

// magicOf reads the first bytes of a file.
func magicOf(f *os.File) (string, error) {
	first := make([]byte, 10)
	n, err := f.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(first[:n]), nil
}

// open opens the tar file that an archive is or, by its first bytes, has in it; where
// names it for people. The caller closes t when it is no longer read.
func (u *unpacked) open(ctx context.Context, file, where string, scratch func(context.Context) (string, error)) (t *tarFile, err error) {
	f, size, err := openTar(file, where)
	if err != nil {
		return nil, err
	}
	t = &tarFile{file: file, content: f, size: size, at: map[string]extent{}, links: map[string]string{}}
	first, err := magicOf(f)
	packed, other := compressed(first)
	switch {
	case err != nil:
	case other != "":
		err = hint.New(hint.Usage, "decompress it first; only gzip and zstd are supported", "not a tar file, but a file compressed with %s", other)
	case packed:
		defer f.Close() //nolint:errcheck // nothing was written
		t.borrowed = true
		t.content, t.size, err = u.unpack(ctx, f, scratch)
	}
	if err == nil {
		err = t.scan(ctx)
	}
	if err != nil {
		t.close()
		return nil, in(where, err)
	}
	return t, nil
}

// unpack returns what f has in it, which stays open.
func (u *unpacked) unpack(ctx context.Context, f *os.File, scratch func(context.Context) (string, error)) (*os.File, int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if u.content == nil || !unchanged(u.of, info) {
		// What was unpacked before may still be read: its readers hold it.
		if u.content, err = unpackInto(ctx, f, scratch); err != nil {
			return nil, 0, err
		}
		u.of = info
	}
	is, err := u.content.Stat()
	if err != nil {
		return nil, 0, err
	}
	return u.content, is.Size(), nil
}

// unchanged reports whether a file is still the one it was.
func unchanged(was, is os.FileInfo) bool {
	return os.SameFile(was, is) && was.Size() == is.Size() && was.ModTime().Equal(is.ModTime())
}

// unpackInto writes what f has in it to a file that has no name, where the system
// permits that, so that it goes when the process does.
func unpackInto(ctx context.Context, f *os.File, scratch func(context.Context) (string, error)) (_ *os.File, err error) {
	dir := ""
	if scratch != nil {
		if dir, err = scratch(ctx); err != nil {
			return nil, err
		}
	}
	r, err := rootfs.Uncompress(io.NopCloser(whileReading{ctx, f}))
	if err != nil {
		return nil, mismatch("cannot decompress: %w", err)
	}
	defer r.Close() //nolint:errcheck // nothing was written
	out, err := os.CreateTemp(dir, "mabuild-archive-*")
	if err != nil {
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	_ = os.Remove(out.Name()) // not everywhere, while it is open
	n, err := io.Copy(writing{out}, io.LimitReader(r, maxUnpacked+1))
	switch write := (*writeError)(nil); {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &write):
		err = hint.New(hint.Build, "free some space there, or decompress the archive first", "cannot decompress: %w", write.error)
	case err != nil:
		err = mismatch("cannot decompress: %w", err)
	case n > maxUnpacked:
		err = hint.New(hint.Build, "check that it is an archive of images, and decompress it first", "has more than %d bytes when decompressed", maxUnpacked)
	}
	if err != nil {
		_ = out.Close()
		_ = os.Remove(out.Name())
		return nil, err
	}
	return out, nil
}

// close removes what was unpacked.
func (u *unpacked) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.content == nil {
		return nil
	}
	err := u.content.Close()
	_ = os.Remove(u.content.Name()) // it may be gone
	u.content = nil
	return err
}

// writing tells errors of writing from those of reading.
type writing struct{ io.Writer }

type writeError struct{ error }

func (w writing) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}
