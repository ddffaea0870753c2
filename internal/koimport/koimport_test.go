package koimport

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/yamlconf"
)

const koYAML = `defaultBaseImage: gcr.io/distroless/base
defaultPlatforms: [linux/arm64]
baseImageOverrides: {example.com/m/cmd/app: alpine}
builds:
- id: app
  main: ./cmd/app/main.go
  env: [CGO_ENABLED=1, GOFLAGS=-x, GOEXPERIMENT=none]
  flags: [-tags, netgo]
  ldflags: [-s -w, "-X main.v={{.Git.Tag}}", "-X main.t={{.Git.CommitTimestamp}}"]
  linux_capabilities: [net_admin]
`

// The result builds the same programs. What has no counterpart is a comment and a note
// with its line.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, notes, err := Convert(".ko.yaml", dir, []byte(koYAML))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`base: "gcr.io/distroless/base"`, `platforms: ["linux/arm64"]`, `  - id: "app"`, `    main: "./cmd/app"`, `    base: "alpine"`, "    cgo: true",
		`    env: ["GOEXPERIMENT=none"]`, `    build_tags: ["netgo"]`, `    ldflags: ["-X main.v={{.Tag}}", "-X main.t={{.Timestamp}}"]`, "    symbols: false",
	} {
		if !strings.Contains(string(out), "\n"+want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	var lines []int
	for _, note := range notes {
		problem := (*yamlconf.Problem)(nil)
		if !errors.As(note, &problem) {
			t.Fatalf("%v is not a problem", note)
		}
		lines = append(lines, problem.Origin.Line)
	}
	if len(lines) != 2 || lines[0] != 7 || lines[1] != 10 {
		t.Errorf("notes %v", notes)
	}
}

// A file that ko could not read is an error with its line, and a hostile one has the
// bounds of every file.
func TestConvertComplains(t *testing.T) {
	for in, want := range map[string]string{
		"builds: 7\n":               "f:1: builds: must be a list",
		"builds:\n- main: [x]\n":    "f:2: builds[0].main: must be a string",
		"a: b\na: c\n":              "f:2: a: duplicate of line 1",
		"builds: [\n":               "f:1: did not find expected",
		"defaultBaseImage: \"\\b\"": "the conversion of f is invalid",
		"defaultLdflags: [" + strings.Repeat("x,", 60_000) + "]\n": "f:1: contains more than 50000 values",
	} {
		_, _, err := Convert("f", t.TempDir(), []byte(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %.300v, want %s", in, err, want)
		}
	}
}
