package rootfs

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// MaxWindow is how far back a zstd layer may refer, and with it what its decoder
// takes of memory, in bytes: RFC 8878 asks decoders for 8 MiB, which all levels of zstd
// up to 19 and the encoders of container tools keep to. With the largest window, the
// largest tree and the largest headers a process takes less than 128 MB.
const MaxWindow = 16 << 20

// Uncompress reads a layer in gzip or zstd, by its first bytes; another one is read
// as it is. A zstd window of more than [MaxWindow] is zstd.ErrWindowSizeExceeded.
// It closes r with the reader that it returns, or if it fails.
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
		return &uncompressed{z, func() error { return errors.Join(z.Close(), r.Close()) }}, nil
	case bytes.HasPrefix(first, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		return &uncompressed{z, func() error { z.Close(); return r.Close() }}, nil
	}
	return &uncompressed{buffered, r.Close}, nil
}

type uncompressed struct {
	io.Reader
	close func() error
}

func (u *uncompressed) Close() error { return u.close() }
