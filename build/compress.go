package build

import (
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Formats that layers can have.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// A Compression is how the layers that mabuild makes are compressed; those of a
// base stay as they are. Its zero value is gzip at level 1, which on Go programs
// has half the time and 12 % more bytes of gzip's usual level 6
// (docs/performance.md).
type Compression struct {
	Format string // Gzip or Zstd, "": Gzip
	Level  int    // 1 to 9 of gzip, 1 to 22 of zstd; 0: 1 of gzip, 3 of zstd
}

// formats says of each format its highest and its usual level.
var formats = map[string]struct{ highest, usual int }{
	Gzip: {gzip.BestCompression, gzip.BestSpeed},
	Zstd: {22, 3},
}

// full fills in what c leaves open.
func (c Compression) full() Compression {
	if c.Format == "" {
		c.Format = Gzip
	}
	if c.Level == 0 {
		c.Level = formats[c.Format].usual
	}
	return c
}

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

func (c Compression) mediaType() types.MediaType {
	if c.Format == Zstd {
		return types.OCILayerZStd
	}
	return types.OCILayer
}

// zstdWindow is how far back zstd looks, and about half of what one layer's
// compression takes of memory. Every decoder takes 8 MiB (RFC 8878, 3.1.1.1.2).
const zstdWindow = 4 << 20

// writer compresses into dst. The bytes depend on c, on size and on what is
// written, nothing else.
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
