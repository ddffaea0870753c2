// Package decompress reads compressed files that may be hostile: gzip, bzip2, xz and zstd.
//
// The format is found by content, never by name, and the memory that a file asks for is
// bounded by the caller. How much a file unpacks to is not.
package decompress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"github.com/mabuild/mabuild/internal/stream"
)

// A Format is a format of compression.
type Format int

// The formats. None is that of a file without compression.
const (
	None Format = iota
	Gzip
	Bzip2
	XZ
	Zstd
)

// headSize is how many bytes of a file decide its format.
const headSize = 8

// FormatOf returns the format of a file from its first bytes.
func FormatOf(head []byte) Format {
	for _, f := range []struct {
		magic  string
		format Format
	}{{"\x1f\x8b", Gzip}, {"\xfd7zXZ\x00", XZ}, {"\x28\xb5\x2f\xfd", Zstd}, {"BZh", Bzip2}} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return f.format
		}
	}
	return None
}

// Reader returns the content of a file, which is the file itself if it is not compressed.
// window bounds the bytes that the decompressor may look back, and so its memory; at most
// 2 GiB. A file that is cut is io.ErrUnexpectedEOF.
func Reader(file io.Reader, window int64) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(file, 1<<16)
	head, err := in.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch FormatOf(head) {
	case Gzip:
		return gzip.NewReader(in)
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(in)), nil
	case Zstd:
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window))) //nolint:gosec // a constant of the caller
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case XZ:
		return newXZ(in, window)
	}
	return io.NopCloser(in), nil
}

// xzReaders has pools of decompressors, by window: each has a dictionary of megabytes.
var xzReaders sync.Map

// newXZ returns the content of an xz file. A decompressor that was read to its end is used
// again.
func newXZ(in io.Reader, window int64) (io.ReadCloser, error) {
	found, _ := xzReaders.LoadOrStore(window, &sync.Pool{})
	pool := found.(*sync.Pool) //nolint:forcetypeassert // see above
	d, used := pool.Get().(*xz.Reader)
	var err error
	if used {
		err = d.Reset(in)
	} else {
		d, err = xz.NewReader(in, uint32(window)) //nolint:gosec // a constant of the caller
	}
	if err != nil {
		return nil, xzError(err, window)
	}
	whole := false
	r := stream.Reader(func(p []byte) (int, error) {
		n, err := d.Read(p)
		whole = errors.Is(err, io.EOF)
		return n, xzError(err, window)
	})
	return stream.WithClose(r, func() error {
		if whole {
			whole = false // Close may be called twice
			pool.Put(d)
		}
		return nil
	}), nil
}

// xzError returns an error of the decompressor of xz in the terms of this package.
func xzError(err error, window int64) error {
	switch {
	case errors.Is(err, xz.ErrMemlimit):
		return fmt.Errorf("to unpack it needs more than the limit of %d bytes of memory", window)
	case errors.Is(err, xz.ErrBuf):
		return io.ErrUnexpectedEOF
	}
	return err
}
