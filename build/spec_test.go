package build

import (
	"strings"
	"testing"

	"github.com/mabuild/mabuild/crosscompile"
)

// staticFlags adds the linker's flags for a static program only where cgo is used.
func TestStaticFlags(t *testing.T) {
	c := Compile{Cgo: true, C: crosscompile.Cgo{Static: true}, Ldflags: []string{"-X main.a=b"}, Tags: []string{"mine"}}
	if got, want := strings.Join(c.Flags(), "|"), "-ldflags=-linkmode=external -extldflags=-static -s -w -X main.a=b|-tags=mine,netgo,osusergo"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	c.Cgo = false
	if got, want := strings.Join(c.Flags(), "|"), "-ldflags=-s -w -X main.a=b|-tags=mine"; got != want {
		t.Errorf("without cgo: %s\nwant %s", got, want)
	}
}
