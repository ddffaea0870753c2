package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// The examples in docs/ci.md and docs/kubernetes.md are valid YAML and use existing flags.
func TestCI(t *testing.T) {
	for file, want := range map[string]int{"ci.md": 5, "kubernetes.md": 5} {
		t.Run(file, func(t *testing.T) { testExamples(t, "../../docs/"+file, want) })
	}
}

// testExamples checks the examples of a file, of which want are in YAML.
func testExamples(t *testing.T, file string, want int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known, pipelines := allFlags(), 0
	for _, b := range examples(string(text)) {
		if b.language == "yml" {
			pipelines++
			for in := yaml.NewDecoder(strings.NewReader(b.text)); ; {
				var any map[string]any
				err := in.Decode(&any)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || len(any) == 0 {
					t.Fatalf("%v in\n%s", err, b.text)
				}
			}
		}
		for line := range strings.Lines(b.text) {
			_, command, runs := strings.Cut(line, "mabuild ")
			if !runs {
				continue
			}
			command, _, _ = strings.Cut(command, " | ")
			for _, flag := range regexp.MustCompile(`\s(--?[a-z][a-z-]*)`).FindAllStringSubmatch(command, -1) {
				if !known[flag[1]] {
					t.Errorf("mabuild has no flag %s: %s", flag[1], line)
				}
			}
		}
	}
	if pipelines != want {
		t.Errorf("%d examples in YAML, want %d", pipelines, want)
	}
}

// An action is the part of action.yml that the test checks.
type action struct {
	Inputs  map[string]struct{ Description, Default string }
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []struct {
			ID, Shell, Run, Uses, If string
			Env                      map[string]string
		}
	}
}

// readAction returns action.yml and the script that its steps call.
func readAction(t *testing.T) (a action, script string) {
	t.Helper()
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("../../.ci/action")
	if err != nil {
		t.Fatal(err)
	}
	return a, string(raw)
}

// docs/ci.md lists the inputs and outputs of the action as action.yml describes them.
func TestActionIsDocumented(t *testing.T) {
	a, _ := readAction(t)
	page, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Inputs) < 10 || len(a.Outputs) < 5 {
		t.Errorf("action.yml has %d inputs and %d outputs", len(a.Inputs), len(a.Outputs))
	}
	for name, in := range a.Inputs {
		if !strings.Contains(string(page), "| `"+name+"` | "+in.Description) {
			t.Errorf("no row for the input %s: %s", name, in.Description)
		}
	}
	for name, out := range a.Outputs {
		if row := "| `" + name + "` | " + out.Description + " |"; !strings.Contains(string(page), row) {
			t.Errorf("no row %s", row)
		}
	}
}

// action.yml uses existing flags. All its steps call the script, which gets each input as a
// variable, or a pinned action. What is cached is saved before the user's code runs.
func TestActionFile(t *testing.T) {
	a, script := readAction(t)
	var order []string
	used := map[string]bool{}
	for _, step := range a.Runs.Steps {
		order = append(order, step.ID)
		if step.Uses != "" {
			if !regexp.MustCompile(`^actions/cache/(restore|save)@v[0-9]+$`).MatchString(step.Uses) {
				t.Errorf("%s uses %s", step.ID, step.Uses)
			}
			continue
		}
		if want := `bash "$ACTION/.ci/action" ` + step.ID; step.Shell != "bash" || step.Run != want || step.Env["ACTION"] != "${{ github.action_path }}" {
			t.Errorf("step %+v, want %s", step, want)
		}
		for variable, value := range step.Env {
			name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, "INPUT_"), "_", "-"))
			if variable != "ACTION" && value != "${{ inputs."+name+" }}" {
				t.Errorf("%s of step %s is %q", variable, step.ID, value)
			}
			used[name] = true
		}
	}
	if got, want := strings.Join(order, " "), "key cache build save push"; a.Runs.Using != "composite" || got != want {
		t.Errorf("%s steps %s, want %s", a.Runs.Using, got, want)
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
		case "packages", "args", "push", "version":
		default:
			if cmd.Flags().Lookup(name) == nil {
				t.Errorf("input %s is no flag of push", name)
			}
			if !used[name] || !regexp.MustCompile(`for name in [a-z -]*\b`+name+`\b|INPUT_`+strings.ToUpper(name)).MatchString(script) {
				t.Errorf("the script does not read the input %s", name)
			}
		}
	}
	for name, output := range a.Outputs {
		if output.Value != "${{ steps.push.outputs."+name+" }}" || !regexp.MustCompile(`echo "`+name+`(=|<<)`).MatchString(script) {
			t.Errorf("the script does not set the output %s", name)
		}
	}
}

// actionScript is a test of action.yml's script, with the program of the tests instead of
// the one that the action builds.
const actionScript = `registry REG
env RUNNER_TEMP=$WORK/temp GITHUB_OUTPUT=$WORK/output GITHUB_STEP_SUMMARY=$WORK/summary GITHUB_PATH=$WORK/path
env RUNNER_OS=Linux RUNNER_ARCH=X64 INPUT_VERSION=
mkdir temp/mabuild/bin
exec cp $BIN/mabuild temp/mabuild/bin/mabuild
env INPUT_PACKAGES= INPUT_REPO=$REG/Acme INPUT_TAG= INPUT_PUSH=true INPUT_DRY_RUN= INPUT_PLATFORMS=linux/arm64
env INPUT_BASE= INPUT_SBOM= INPUT_ATTEST= INPUT_VCS= INPUT_CONFIG= INPUT_CACHE= INPUT_ARGS=
env INPUT_PACKAGES=./cmd/...
lines INPUT_TAG v1 latest
env INPUT_ARGS=--progress=none
exec bash $SOURCE/.ci/action push
validate $REG/acme/api:v1 linux/arm64
validate $REG/acme/worker:latest linux/arm64
setdigest API $REG/acme/api:v1
grep '^image='$REG/acme/api@$API$ output
grep '^digest='$API$ output
grep '^layout=$' output
grep '^metadata='$WORK/temp/mabuild/metadata.json$ output
grep -count=2 '^127.*@sha256:' output
grep '"platform": "linux/arm64"' temp/mabuild/metadata.json
grep '^### worker$' summary
grep -count=2 '^\| linux/arm64 \| [0-9.]+ kB \| sha256&#58;' summary
env INPUT_PACKAGES=./cmd/api INPUT_TAG=$REG/Acme/Full:V2
exec bash $SOURCE/.ci/action push
validate $REG/acme/full:V2 linux/arm64

# Several words on a line, words with blanks, and switches.
rm output
lines INPUT_ARGS '--progress none --label=a=b' '' '--label "text=two words" --ldflags ''-X main.v=$HOME'' --platform linux/amd64'
env INPUT_TAG=$REG/acme/words:v1 INPUT_SBOM=spdx INPUT_ATTEST=true INPUT_VCS=false INPUT_PLATFORMS= INPUT_DRY_RUN=false
exec bash $SOURCE/.ci/action push
exec mabuild inspect $REG/acme/words:v1 --platform linux/amd64 --referrers
stdout 'text=two words'
stdout 'a=b'
stdout 'sbom'
stdout 'provenance'
env INPUT_ARGS='--label "a=b'
! exec bash $SOURCE/.ci/action push
stderr '^::error title=mabuild::args: a quote is not closed in: --label "a=b$'

# A dry run builds nothing. Without a push, all platforms are built.
rm output
rm summary
env INPUT_ARGS= INPUT_SBOM= INPUT_ATTEST= INPUT_VCS= INPUT_DRY_RUN=true INPUT_TAG=$REG/acme/dry:v1 INPUT_PLATFORMS=linux/amd64,linux/s390x
exec bash $SOURCE/.ci/action push
stdout '→ 127.*/acme/dry:v1'
! exists output
env INPUT_DRY_RUN= INPUT_PUSH=false
exec bash $SOURCE/.ci/action push
absent $REG/acme/dry:v1
grep '^image=$' output
! grep '@sha256:' output
grep '^layout='$WORK/temp/mabuild/layout$ output
grep '^\| linux/s390x ' summary
exec mabuild inspect --require linux/amd64,linux/s390x oci:temp/mabuild/layout
exec mabuild inspect --digest oci:temp/mabuild/layout
cp stdout digest
exec sh -c 'grep -qx "digest=$(cat digest)" output'
env INPUT_PUSH=yes
! exec bash $SOURCE/.ci/action push
stderr 'push: yes must be true or false'

# A failure, and one beside a program that is published.
env INPUT_PUSH=true INPUT_ARGS=--no-such-flag
rm output
! exec bash $SOURCE/.ci/action push
stderr 'no-such-flag'
! exists output
env INPUT_ARGS= INPUT_PACKAGES= INPUT_TAG= INPUT_REPO=$REG/some INPUT_PLATFORMS=linux/amd64
lines INPUT_PACKAGES ./cmd/api ./broken
! exec bash $SOURCE/.ci/action push
stderr 'undefined: nothing'
grep '^image=127.*/some/api@sha256:' output

# mabuild is compiled with a toolchain of its own, once, and not with what is set for the
# user's program.
rm output
env PATH=$WORK/fake:$PATH GOTOOLCHAIN=local GOFLAGS=-mod=vendor GOOS=windows GOWORK=$WORK/go.work
exec bash $SOURCE/.ci/action key
grep '^key=mabuild-Linux-X64-[0-9a-f]+$' output
exec bash $SOURCE/.ci/action build
stdout '^fake$'
cmpenv go.log want.log
grep '^'$WORK/temp/mabuild/bin$ path
exec bash $SOURCE/.ci/action build
cmpenv go.log want.log
env INPUT_VERSION=0123456789abcdef
exec bash $SOURCE/.ci/action build
grep '^GOTOOLCHAIN=auto GOFLAGS= GOWORK=off install -trimpath github.com/mabuild/mabuild/cmd/mabuild@0123456789abcdef$' go.log
env 'INPUT_VERSION=v1 $(id)'
! exec bash $SOURCE/.ci/action key
stderr 'is not a version'
env INPUT_VERSION=fails
! exec bash $SOURCE/.ci/action build
stderr 'mabuild cannot be compiled with go version fake.*Go 1.21 or later'

# The binary of a release is used if it has the checksum; without one, mabuild is compiled.
rm go.log
exec tar -czf releases/mabuild/mabuild/releases/download/v1.2.3/mabuild_1.2.3_linux_amd64.tar.gz -C fake mabuild
exec sh -c 'cd releases/mabuild/mabuild/releases/download/v1.2.3 && sha256sum mabuild_* >checksums.txt'
serve RELEASES releases
env GITHUB_SERVER_URL=$RELEASES INPUT_VERSION=v1.2.3
exec bash $SOURCE/.ci/action build
stdout '^release$'
! exists go.log
env INPUT_VERSION=v1.2.4
exec bash $SOURCE/.ci/action build
stdout '^fake$'
env INPUT_VERSION=v1.2.3
exec sh -c 'echo >>releases/mabuild/mabuild/releases/download/v1.2.3/mabuild_1.2.3_linux_amd64.tar.gz'
! exec bash $SOURCE/.ci/action build
stderr 'mabuild_1.2.3_linux_amd64.tar.gz does not have the checksum of checksums.txt'
! exists temp/mabuild/bin/mabuild

-- releases/mabuild/mabuild/releases/download/v1.2.3/README --
-- want.log --
GOTOOLCHAIN=auto GOFLAGS= GOWORK=off build -trimpath -buildvcs=false -o $WORK/temp/mabuild/bin/ ./cmd/mabuild
-- broken/main.go --
package main

func main() { nothing() }
-- go.mod --
module example.com/shop

go 1.26
-- cmd/api/main.go --
package main

func main() {}
-- cmd/worker/main.go --
package main

func main() { println() }
-- fake/mabuild --
#!/bin/sh
echo release
-- fake/go --
#!/bin/sh
case "$*" in
"env GOHOSTOS") echo linux ;;
"env GOHOSTARCH") echo amd64 ;;
version) echo go version fake ;;
*@fails) exit 1 ;;
*)
	test "$GOOS/$GOARCH/$CGO_ENABLED" = linux/amd64/0 || exit 1
	echo "GOTOOLCHAIN=$GOTOOLCHAIN GOFLAGS=$GOFLAGS GOWORK=$GOWORK $*" >>"$WORK/go.log"
	printf '#!/bin/sh\necho fake\n' >"$GOBIN/mabuild"
	chmod +x "$GOBIN/mabuild"
	;;
esac
`

// The script of action.yml runs as on GitHub.
func TestAction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "action.txtar"), []byte(actionScript), 0o600); err != nil {
		t.Fatal(err)
	}
	p := params(t, dir)
	p.Cmds["lines"] = func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Setenv(args[0], strings.Join(args[1:], "\n"))
	}
	p.Cmds["serve"] = func(ts *testscript.TestScript, _ bool, args []string) {
		server := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
		ts.Defer(server.Close)
		ts.Setenv(args[0], server.URL)
	}
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		for _, file := range []string{"fake/go", "fake/mabuild"} {
			if err := os.Chmod(filepath.Join(env.WorkDir, file), 0o700); err != nil {
				return err
			}
		}
		return setup(env)
	}
	testscript.Run(t, p)
}
