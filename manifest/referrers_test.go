package manifest_test

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// The tag for referrers follows the specification, and IsReferrersTag recognizes it.
func TestReferrersTag(t *testing.T) {
	for _, c := range []struct {
		algorithm string
		digits    int
		want      string
	}{
		{"sha256", 64, "sha256-" + strings.Repeat("a", 64)},
		{"sha512", 128, "sha512-" + strings.Repeat("a", 90)}, // truncated as in the specification
	} {
		got := manifest.ReferrersTag(v1.Hash{Algorithm: c.algorithm, Hex: strings.Repeat("a", c.digits)})
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.algorithm, got, c.want)
		}
		for tag, is := range map[string]bool{got: true, got + ".sig": true, got + ".att.old": true, "v" + got: false, got + "g": false, got[:40]: false} {
			if manifest.IsReferrersTag(tag) != is {
				t.Errorf("%s: %t, want %t", tag, !is, is)
			}
		}
	}
}
