package build

import (
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// The formats in which layers can be compressed.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// A Compression says how the layers that mabuild makes are compressed. Layers of a base
// image are never compressed again. The zero value is gzip at level 1: on Go programs it
// takes half the time of gzip's usual level 6 and makes 12 % more bytes
// (docs/performance.md).
type Compression struct {
	Format string // Gzip or Zstd; "": Gzip
	Level  int    // gzip: 1 to 9; zstd: 1 to 22; 0: 1 for gzip, 3 for zstd
}

// formats has the highest and the default level of each format.
var formats = map[string]struct{ highest, usual int }{
	Gzip: {gzip.BestCompression, gzip.BestSpeed},
	Zstd: {22, 3},
}

// full returns c with its defaults filled in. The defaults are part of the cache key of a
// layer, so that a default and the same explicit value find the same cached layer.
func (c Compression) full() Compression {
	if c.Format == "" {
		c.Format = Gzip
	}
	if c.Level == 0 {
		c.Level = formats[c.Format].usual
	}
	return c
}

// validate checks the format and the level of c, which full has completed.
func (c Compression) validate() error {
	f, ok := formats[c.Format]
	switch {
	case !ok:
		return &SpecError{Field: "compression", Reason: fmt.Sprintf("unknown format %q", c.Format), Way: "use gzip or zstd"}
	case c.Level < 1 || c.Level > f.highest:
		return &SpecError{Field: "compression", Reason: fmt.Sprintf("%s has levels 1 to %d, not %d", c.Format, f.highest, c.Level)}
	}
	return nil
}

// mediaType returns the OCI media type of a layer; assemble translates it for Docker.
func (c Compression) mediaType() types.MediaType {
	if c.Format == Zstd {
		return types.OCILayerZStd
	}
	return types.OCILayer
}

// zstdWindow is the window of the zstd encoder in bytes. About twice as much memory is
// needed to compress one layer. Every decoder supports windows of 8 MiB (RFC 8878,
// section 3.1.1.1.2).
const zstdWindow = 4 << 20

// writer returns a writer that compresses into dst. Its output depends only on c, size
// and the bytes written, so the same layer has the same digest on every machine: gzip
// splits its input by size, never by the number of cores, and zstd uses one goroutine.
// size is the sum of the file sizes in the layer.
func (c Compression) writer(dst io.Writer, size int64) (io.WriteCloser, error) {
	switch {
	case c.Format == Zstd:
		return zstd.NewWriter(dst, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(c.Level)),
			zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(1))
	case size >= splitFrom:
		return newSplit(dst, c.Level)
	}
	return gzip.NewWriterLevel(dst, c.Level)
}
