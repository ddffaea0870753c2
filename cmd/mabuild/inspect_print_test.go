package main

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/manifest"
)

// Digests are shortened only on a terminal that is too narrow.
func TestNarrow(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	r := &manifest.Report{Ref: "app:v1", Platforms: []manifest.Runnable{{Platform: "linux/arm64", Digest: v1.Hash{Algorithm: "sha256", Hex: hex}}}}
	for width, whole := range map[int]bool{0: true, 80: false, 120: true} {
		var b strings.Builder
		o := inspectOptions{width: width}
		if err := o.printReport(&b, r); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "   sha256:"+hex) != whole || strings.Contains(b.String(), "   sha256:abababababab…") == whole {
			t.Errorf("width %d:\n%s", width, &b)
		}
	}
}
