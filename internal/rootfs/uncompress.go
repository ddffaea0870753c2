package rootfs

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mabuild/mabuild/internal/stream"
)

// MaxWindow is the largest window of a zstd layer, in bytes. It bounds the memory of the
// decoder. RFC 8878 (section 3.1.1.1.2) asks decoders to support 8 MiB; the levels of
// zstd up to 19 and the encoders of container tools stay within this. With the largest
// window, tree and headers a process needs less than 128 MB.
const MaxWindow = 16 << 20

// Uncompress returns the uncompressed content of a layer. It recognises gzip and zstd by
// their first bytes, whatever the media type says, and returns anything else unchanged. A
// zstd window larger than [MaxWindow] is zstd.ErrWindowSizeExceeded.
//
// Closing the returned reader closes r. If Uncompress fails, it closes r itself.
func Uncompress(r io.ReadCloser) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	first, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, r.Close())
	}
	switch {
	case bytes.HasPrefix(first, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		return stream.WithClose(z, func() error { return errors.Join(z.Close(), r.Close()) }), nil
	case bytes.HasPrefix(first, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		return stream.WithClose(z, func() error { z.Close(); return r.Close() }), nil
	}
	return stream.WithClose(buffered, r.Close), nil
}
