package build

import (
	"fmt"

	"github.com/klauspost/compress/gzip"
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
