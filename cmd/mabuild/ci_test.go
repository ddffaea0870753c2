package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// The examples in docs/ci.md are valid YAML and use existing flags.
func TestCI(t *testing.T) {
	text, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	known, pipelines := allFlags(), 0
	for _, b := range examples(string(text)) {
		if b.language == "yml" {
			pipelines++
			var any map[string]any
			if err := yaml.Unmarshal([]byte(b.text), &any); err != nil || len(any) == 0 {
				t.Errorf("%v in\n%s", err, b.text)
			}
		}
		for line := range strings.Lines(b.text) {
			_, command, runs := strings.Cut(line, "mabuild ")
			if !runs {
				continue
			}
			for _, flag := range regexp.MustCompile(`\s(--?[a-z][a-z-]*)`).FindAllStringSubmatch(command, -1) {
				if !known[flag[1]] {
					t.Errorf("mabuild has no flag %s: %s", flag[1], line)
				}
			}
		}
	}
	if pipelines != 4 {
		t.Errorf("%d pipelines, want 4", pipelines)
	}
}

// An action is the part of action.yml that the test checks.
type action struct {
	Inputs  map[string]struct{ Description, Default string }
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []struct {
			ID, Shell, Run string
			Env            map[string]string
		}
	}
}

// action.yml uses existing flags, and its script runs as on GitHub, with the program of the
// tests instead of the one that the action builds.
func TestAction(t *testing.T) {
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var a action
	if err := yaml.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	push := a.Runs.Steps[len(a.Runs.Steps)-1]
	if a.Runs.Using != "composite" || push.ID != "push" || push.Shell != "bash" {
		t.Fatalf("runs %+v", a.Runs)
	}
	cmd := newPush(&app{})
	(&app{}).bind(cmd.Flags())
	for name, input := range a.Inputs {
		if input.Description == "" {
			t.Errorf("input %s has no description", name)
		}
		switch name {
		case "working-directory":
			continue
		case "packages", "args":
		default:
			if cmd.Flags().Lookup(name) == nil {
				t.Errorf("input %s is no flag of push", name)
			}
		}
		if got, want := push.Env["INPUT_"+strings.ToUpper(name)], "${{ inputs."+name+" }}"; got != want {
			t.Errorf("input %s reaches the script as %q, want %q", name, got, want)
		}
	}
	if strings.Contains(push.Run, "${{") {
		t.Error("an input stands in the script, where it is code")
	}
	for name := range a.Outputs {
		if !strings.Contains(push.Run, name+"=") && !strings.Contains(push.Run, name+"<<") {
			t.Errorf("nobody sets the output %s", name)
		}
	}
	script := `registry REG
env RUNNER_TEMP=$WORK/temp GITHUB_OUTPUT=$WORK/output
mkdir temp/mabuild
env INPUT_PACKAGES= INPUT_REPO=$REG/Acme INPUT_TAG= INPUT_PLATFORMS=linux/arm64 INPUT_BASE= INPUT_CONFIG= INPUT_CACHE= INPUT_ARGS=
env INPUT_PACKAGES=./cmd/...
lines INPUT_TAG v1 latest
env INPUT_ARGS=--progress=none
exec bash run.sh
validate $REG/acme/api:v1 linux/arm64
validate $REG/acme/worker:latest linux/arm64
setdigest API $REG/acme/api:v1
grep '^image='$REG/acme/api@$API$ output
grep '^metadata='$WORK/temp/mabuild/metadata.json$ output
grep -count=2 '^127.*@sha256:' output
grep '"platform": "linux/arm64"' temp/mabuild/metadata.json
env INPUT_PACKAGES=./cmd/api INPUT_TAG=$REG/Acme/Full:V2
exec bash run.sh
validate $REG/acme/full:V2 linux/arm64
env INPUT_ARGS=--no-such-flag
! exec bash run.sh
stderr 'no-such-flag'
`
	dir := t.TempDir()
	script += "-- go.mod --\nmodule example.com/shop\n\ngo 1.26\n-- cmd/api/main.go --\npackage main\n\nfunc main() {}\n" +
		"-- cmd/worker/main.go --\npackage main\n\nfunc main() { println() }\n-- run.sh --\n" + push.Run
	if err := os.WriteFile(filepath.Join(dir, "action.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p := params(t, dir)
	p.Cmds["lines"] = func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Setenv(args[0], strings.Join(args[1:], "\n"))
	}
	testscript.Run(t, p)
}
