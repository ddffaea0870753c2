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
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
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

// HeadSize is how many bytes of a file decide its format and its window.
const HeadSize = 64

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
// window bounds the bytes that the decompressor may look back, for xz in the first block.
func Reader(file io.Reader, window int64) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(file, 1<<16)
	head, err := in.Peek(HeadSize)
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
		if needs := xzWindow(head); needs > window {
			return nil, fmt.Errorf("to unpack it needs %d bytes of memory, more than the limit of %d", needs, window)
		}
		d, err := xz.NewReader(in)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	}
	return io.NopCloser(in), nil
}

// xzWindow returns the size of the dictionary of the first block of an xz file (The .xz File
// Format 1.2.0, sections 3.1 and 5.3.1), 0 if it has none.
func xzWindow(head []byte) int64 {
	const header, flags, sizes = 12, 1, 0xc0
	if len(head) < header+4 || head[header] == 0 {
		return 0
	}
	b := head[header+flags:]
	optional := b[0] & sizes
	b = b[1:]
	for ; optional != 0; optional <<= 1 { // compressed and uncompressed size, if there
		if optional&0x80 != 0 {
			for len(b) > 0 && b[0]&0x80 != 0 {
				b = b[1:]
			}
			b = b[min(1, len(b)):]
		}
	}
	const lzma2 = 0x21
	if len(b) < 3 || b[0] != lzma2 || b[2] > 40 {
		return 0
	}
	bits := b[2]
	if bits == 40 {
		return math.MaxUint32
	}
	return (2 | int64(bits&1)) << (bits/2 + 11)
}
