package build

import (
	"fmt"
	"testing"
)

// The format and the level of a compression are checked, and have defaults.
func TestCompressionValidates(t *testing.T) {
	for text, c := range map[string]Compression{
		`compression: unknown format "lz4"`:            {Format: "lz4"},
		"compression: gzip has levels 1 to 9, not 10":  {Format: Gzip, Level: 10},
		"compression: gzip has levels 1 to 9, not -1":  {Level: -1},
		"compression: zstd has levels 1 to 22, not 23": {Format: Zstd, Level: 23},
	} {
		if err := c.full().validate(); err == nil || err.Error() != text {
			t.Errorf("%v: %v, want %s", c, err, text)
		}
	}
	for c, want := range map[Compression]string{{}: "{gzip 1}", {Format: Zstd}: "{zstd 3}", {Format: Gzip, Level: 6}: "{gzip 6}"} {
		if full := c.full(); fmt.Sprint(full) != want || full.validate() != nil {
			t.Errorf("%v is %v: %v", c, full, full.validate())
		}
	}
}
