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
	result, err := Convert(".ko.yaml", dir, []byte(koYAML))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`base: "gcr.io/distroless/base"`, `platforms: ["linux/arm64"]`, `  - id: "app"`, `    main: "./cmd/app"`, `    base: "alpine"`, "    cgo: true",
		`    env: ["GOEXPERIMENT=none"]`, `    build_tags: ["netgo"]`, `    ldflags: ["-X main.v={{.Tag}}", "-X main.t={{.Timestamp}}"]`, "    symbols: false",
	} {
		if !strings.Contains(string(result.Text), "\n"+want+"\n") && !strings.Contains(string(result.Text), "\n"+want+" #") {
			t.Errorf("no %s in\n%s", want, result.Text)
		}
	}
	var lines []int
	for _, note := range result.Dropped {
		problem := (*yamlconf.Problem)(nil)
		if !errors.As(note, &problem) {
			t.Fatalf("%v is not a problem", note)
		}
		lines = append(lines, problem.Origin.Line)
	}
	if len(lines) != 2 || lines[0] != 7 || lines[1] != 10 {
		t.Errorf("dropped %v", result.Dropped)
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
		_, err := Convert("f", t.TempDir(), []byte(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %.300v, want %s", in, err, want)
		}
	}
}

// A date that is used is explained, since ko's is that of the build.
func TestConvertExplainsDates(t *testing.T) {
	for text, want := range map[string]bool{"{{.Git.CommitDate}}": true, "{{.Timestamp}}": true, "{{.Git.Tag}}": false} {
		result, err := Convert("f", t.TempDir(), []byte("builds: [{main: ., ldflags: ['-X a.b="+text+"']}]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(result.Text), "are the time of the commit"); got != want {
			t.Errorf("%s: %s", text, result.Text)
		}
	}
}

// A build has the lists of the top level that it does not replace, the last of repeated
// flags wins, and a template is filled in with the variables of its build.
func TestConvertInherits(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"defaultLdflags: [-X a.b=c]\nbuilds: [{main: ., ldflags: []}]", `main: "."`},
		{"defaultFlags: [-race]\nbuilds: [{main: ., flags: [-v]}]", `race: false`},
		{"defaultFlags: [-pgo=x.pgo]\nbuilds: [{main: ., flags: [-v]}]", `pgo: "auto"`},
		{"defaultEnv: [CGO_ENABLED=1]\nbuilds: [{main: ., env: [GOEXPERIMENT=none]}]", "cgo: false\n    env: [\"GOEXPERIMENT=none\"]"},
		{"builds: [{main: ., flags: [-tags=a, -tags=b]}]", `build_tags: ["b"]`},
		{"builds: [{main: ., flags: ['-ldflags=-X a.b=c'], ldflags: [-X a.b=d]}]", `ldflags: ["-X a.b=d"]`},
		{"builds: [{main: ., flags: ['-ldflags=-X a.b=c']}]", `ldflags: ["-X a.b=c"]`},
		{"builds: [{main: ., env: [T=x], flags: ['-tags={{.Env.T}}']}]", `build_tags: ["x"]`},
		{"defaultLdflags: ['-X a.b={{.Env.V}}']\nbuilds: [{main: ., env: [V=1]}]", `ldflags: ["-X a.b=1"]`},
	} {
		result, err := Convert("f", t.TempDir(), []byte(test.in))
		if err != nil {
			t.Fatal(err)
		}
		_, builds, _ := strings.Cut(string(result.Text), "builds:\n  - ")
		builds = strings.TrimPrefix(builds, "main: \".\"\n    ")
		if strings.TrimSpace(builds) != test.want || len(result.Dropped) > 0 {
			t.Errorf("%s\n%s\ndropped %v, want %s", test.in, builds, result.Dropped, test.want)
		}
	}
}

// Templates without a counterpart are dropped with the reason.
func TestConvertDropsTemplates(t *testing.T) {
	for in, want := range map[string]string{
		"{{.Git.TreeState}}":  "{{.Version}} ends in -dirty",
		"{{ .Env.GOARCH }}":   "differs by platform",
		"{{.Env.A.B}}":        "is not supported",
		"{{.GoEnv.GOPATH}}":   "is not supported",
		"{{if .Git.Tag}}x":    "support only values",
		"{{printf .Git.Tag}}": "support only values",
	} {
		result, err := Convert("f", t.TempDir(), []byte("defaultLdflags: ['-X a.b="+in+"']"))
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Dropped) != 1 || !strings.Contains(result.Dropped[0].Error(), want) || len(result.Variables) > 0 {
			t.Errorf("%s: %v, want %s", in, result.Dropped, want)
		}
	}
}
