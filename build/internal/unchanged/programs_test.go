//go:build unix && programs

package unchanged

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"
)

// As TestPackagesAreGosOwn, on ten programs of the module proxy: make programs, a part of make nightly.
func TestPackagesOfTheProxyAreGosOwn(t *testing.T) {
	for program, pkg := range map[string]string{
		"github.com/prometheus/node_exporter@v1.12.1":    ".",
		"github.com/google/go-containerregistry@v0.20.6": "./cmd/crane",
		"github.com/klauspost/compress@v1.18.0":          "./s2/cmd/s2d",
		"github.com/junegunn/fzf@v0.60.0":                ".",
		"github.com/mikefarah/yq/v4@v4.45.1":             ".",
		"mvdan.cc/gofumpt@v0.7.0":                        ".",
		"mvdan.cc/sh/v3@v3.10.0":                         "./cmd/shfmt",
		"honnef.co/go/tools@v0.6.0":                      "./cmd/staticcheck",
		"golang.org/x/tools@v0.30.0":                     "./cmd/stringer",
		"github.com/go-delve/delve@v1.24.0":              "./cmd/dlv",
	} {
		out, err := exec.Command("go", "mod", "download", "-json", program).Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		var found struct{ Dir string }
		if err := json.Unmarshal(out, &found); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(found.Dir)); err != nil {
			t.Fatal(err)
		}
		comparePackages(t, dir, pkg)
	}
}
