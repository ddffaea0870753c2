package layerfile

import (
	"io"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// zstdFormat is the value of Writer.Format for zstd.
const zstdFormat = "zstd"

// MediaType returns the OCI media type of the layers of w.
func (w *Writer) MediaType() types.MediaType {
	if w.Format == zstdFormat {
		return types.OCILayerZStd
	}
	return types.OCILayer
}

// zstdWindow is the window of the zstd encoder in bytes. About twice as much memory is
// needed to compress one layer. Every decoder supports windows of 8 MiB (RFC 8878,
// section 3.1.1.1.2).
const zstdWindow = 4 << 20

// compressor returns a writer that compresses into dst. Its output depends only on the
// format, the level, size and the bytes written, so the same layer has the same digest on
// every machine: gzip splits its input by size, never by the number of cores, and zstd
// uses one goroutine. size is the sum of the file sizes in the layer.
func (w *Writer) compressor(dst io.Writer, size int64) (io.WriteCloser, error) {
	switch {
	case w.Format == zstdFormat:
		return zstd.NewWriter(dst, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(w.Level)),
			zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(1))
	case size >= splitFrom:
		return newSplit(dst, w.Level)
	}
	return gzip.NewWriterLevel(dst, w.Level)
}
