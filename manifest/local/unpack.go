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
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/manifest"
)

// This file decompresses archives. Compressed files cannot be read at an offset, so the
// content is written to a temporary file once and read from there.

// maxUnpacked is the largest size of a decompressed archive, in bytes. It bounds what a
// small file can write to the disk.
var maxUnpacked int64 = 64 << 30

// unpacked is the decompressed content of an archive in a temporary file. It is reused
// while the archive does not change, so that several calls decompress it once. mu is held
// while it is decompressed. close ends its use.
type unpacked struct {
	mu      sync.Mutex
	of      os.FileInfo // of the archive when it was decompressed
	content *os.File
}

// The first bytes of compressed files: packedMagic can be read, the others are named in
// errors.
var (
	packedMagic = []string{"\x1f\x8b", "\x28\xb5\x2f\xfd"} // gzip, zstd
	otherMagic  = map[string]string{"xz": "\xfd7zXZ\x00", "lz4": "\x04\x22\x4d\x18", "lzip": "LZIP\x01"}
	bzip2Magic  = regexp.MustCompile(`^BZh[1-9]1AY&SY`)
)

// compressed reports whether a file with these first bytes has a compression that can be
// read. other is the name of one that cannot. The name of the file does not matter.
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

// open opens the tar file that an archive is, or contains if it is compressed, and reads
// its headers. where names it in messages. The caller closes t after reading what it
// needs now; blobs can be opened later.
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
		// The compressed file is only read here. Blobs come from the decompressed file,
		// which close does not end because it is borrowed.
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

// unpack returns the decompressed content of f and its size. The file belongs to u and
// stays open.
func (u *unpacked) unpack(ctx context.Context, f *os.File, scratch func(context.Context) (string, error)) (*os.File, int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if u.content == nil || !unchanged(u.of, info) {
		// Content of an earlier version of the archive may still be read. That file is
		// not closed: the garbage collector closes it after its last reader.
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

// unchanged reports whether a file is the same one with the same size and time of
// modification.
func unchanged(was, is os.FileInfo) bool {
	return os.SameFile(was, is) && was.Size() == is.Size() && was.ModTime().Equal(is.ModTime())
}

// unpackInto decompresses f into a temporary file. Where the system permits it, the name
// is removed at once, so that nothing stays on the disk if the process is killed.
func unpackInto(ctx context.Context, f *os.File, scratch func(context.Context) (string, error)) (_ *os.File, err error) {
	dir := ""
	if scratch != nil {
		if dir, err = scratch(ctx); err != nil {
			return nil, err
		}
	}
	r, err := rootfs.Uncompress(io.NopCloser(stream.ReadAlive(ctx, f)))
	if err != nil {
		return nil, mismatch("cannot decompress: %w", err)
	}
	defer r.Close() //nolint:errcheck // nothing was written
	out, err := os.CreateTemp(dir, "mabuild-archive-*")
	if err != nil {
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	_ = os.Remove(out.Name()) // Windows does not remove open files
	// One byte more than the bound is read, so that a larger archive is an error and is
	// not cut.
	// An error of reading is told from one of writing, so that a full disk is not
	// reported as a broken archive.
	broken := stream.MapError(r, func(err error) error { return mismatch("%w", err) })
	n, err := io.Copy(out, io.LimitReader(broken, maxUnpacked+1))
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, manifest.ErrMismatch):
		err = fmt.Errorf("cannot decompress: %w", err)
	case err != nil:
		err = hint.New(hint.Build, "free some space there, or decompress the archive first", "cannot decompress: %w", err)
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

// close closes and removes the temporary file.
func (u *unpacked) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.content == nil {
		return nil
	}
	err := u.content.Close()
	_ = os.Remove(u.content.Name()) // usually removed already
	u.content = nil
	return err
}
