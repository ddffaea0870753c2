package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

var update = flag.Bool("update", false, "write the golden files")

// lookup returns a Lookup for variables in the form NAME=value.
func lookup(env ...string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		for _, item := range env {
			if k, v, _ := strings.Cut(item, "="); k == key {
				return v, true
			}
		}
		return "", false
	}
}

// flagSet parses args with some flags of push.
func flagSet(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("push", pflag.ContinueOnError)
	f.StringSlice("platforms", nil, "")
	f.StringArrayP("tag", "t", nil, "")
	f.String("repo", "", "")
	f.String("base", "static", "")
	f.StringArray("ldflags", nil, "")
	f.StringArray("label", nil, "")
	f.StringArray("build-env", nil, "")
	f.String("user", "", "")
	f.Bool("vcs", false, "")
	f.Int("jobs", 0, "")
	f.Duration("timeout", 0, "")
	f.StringSlice("insecure-registry", nil, "")
	f.Bool("unrelated", false, "")
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

// write writes files, given as pairs of path and text, to a new directory.
func write(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const sample = `repo: ghcr.io/acme
platforms: [linux/amd64, linux/s390x]
ldflags: ["-X a=top"]
image: {labels: [who=top], user: "1"}
builds:
  - id: api
    main: ./cmd/api
    tags: [v1]
    image: {user: "2"}
    overrides: {linux/arm/v6: {ldflags: [-X=a=six], env: [TZ=UTC]}}
  - id: web
    main: ./cmd/web
    dir: services/web
    platforms: [linux/riscv64]
    ldflags: ["-X a=web"]
`

// A flag takes precedence over a variable, a variable over the file, and the file over the
// default.
func TestPrecedence(t *testing.T) {
	dir := write(t, FileName, sample)
	load := func(env []string, args ...string) *Config {
		t.Helper()
		c, err := Load(Options{Dir: dir, Lookup: lookup(env...), Flags: flagSet(t, args...)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	is := func(got any, want ...string) {
		t.Helper()
		if s, ok := got.(string); ok {
			got = []string{s}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	c := load(nil)
	api, web := c.Builds[0], c.Builds[1]
	is(c.Tags, "latest")
	is(api.Platforms, "linux/amd64", "linux/s390x")
	is(web.Platforms, "linux/riscv64")
	is(api.Ldflags, "-X a=top")
	is(web.Ldflags, "-X a=web")
	is(api.Tags, "v1")
	is(web.Tags, "latest")
	is(api.Image.User, "2")
	is(web.Image.User, "1")
	is(api.Image.Labels, "who=top")
	is(api.Base.Default(), "static")
	is(api.Overrides["linux/arm/v6"].Ldflags, "-X=a=six")
	is(api.Dir, dir)
	is(web.Dir, filepath.Join(dir, "services/web"))

	c = load([]string{"MABUILD_PLATFORMS=linux/arm64, linux/386", "MABUILD_LDFLAGS=-X a=b,c", "MABUILD_REPO=", "MABUILD_IMAGE_USER=3", "MABUILD_VCS=true"})
	api, web = c.Builds[0], c.Builds[1]
	is(api.Platforms, "linux/arm64", "linux/386")
	is(web.Platforms, "linux/arm64", "linux/386")
	is(web.Ldflags, "-X a=b,c")
	is(web.Repo, "ghcr.io/acme")
	is(api.Image.User, "3")
	is(api.Overrides["linux/arm/v6"].Ldflags)
	is(api.Overrides["linux/arm/v6"].Env, "TZ=UTC")
	if !c.VCS {
		t.Error("MABUILD_VCS is ignored")
	}

	c = load([]string{"MABUILD_PLATFORMS=linux/arm64", "MABUILD_REPO=env.example"}, "--platforms=linux/arm,linux/ppc64le", "-t=a", "-t=b,c",
		"--label=a=1,b=2", "--user=", "--base=scratch", "--jobs=3", "--timeout=90s", "--insecure-registry=a.b:5000", "--unrelated")
	api, web = c.Builds[0], c.Builds[1]
	is(web.Platforms, "linux/arm", "linux/ppc64le")
	is(api.Tags, "a", "b,c")
	is(c.Image.Labels, "a=1,b=2")
	is(web.Image.Labels, "a=1,b=2")
	is(api.Image.User, "")
	is(api.Base.Default(), "scratch")
	is(api.Repo, "env.example")
	is(c.InsecureRegistries, "a.b:5000")
	if c.Jobs != 3 || c.Timeout != yamlconf.Duration(90e9) {
		t.Errorf("jobs %d, timeout %d", c.Jobs, c.Timeout)
	}
	for path, want := range map[string]string{
		"platforms": "flag --platforms", "builds[1].platforms": "flag --platforms", "repo": "env MABUILD_REPO",
		"builds[0].main": filepath.Join(dir, FileName) + ":7", "builds[1].ldflags": filepath.Join(dir, FileName) + ":15", "sbom": "default",
	} {
		is(c.Origin(path).String(), want)
	}
}

// Without a file the defaults apply, and each package becomes a program.
func TestWithoutFile(t *testing.T) {
	dir := t.TempDir()
	c, err := Load(Options{Dir: dir, Lookup: lookup(), Flags: flagSet(t, "--repo=r.io/a")})
	if err != nil {
		t.Fatal(err)
	}
	if c.File != "" || c.Dir != dir || len(c.Programs(nil, PathOf)) != 0 {
		t.Errorf("file %q, dir %q, programs %v", c.File, c.Dir, c.Programs(nil, PathOf))
	}
	got := c.Programs([]string{"./cmd/app", "example.com/m@v1"}, PathOf)
	if len(got) != 2 || got[0].Main != "./cmd/app" || got[0].Dir != dir || got[1].Main != "example.com/m@v1" || got[1].Repo != "r.io/a" ||
		!slices.Equal(got[0].Platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("programs %+v", got)
	}
}

// Packages on the command line select the builds of the file that have the same main
// package.
func TestPrograms(t *testing.T) {
	dir := write(t, ".git/HEAD", "", FileName, sample+"  - main: example.com/tool@v1\n    id: tool\n", "cmd/api/x", "")
	for _, test := range []struct {
		from string // relative to dir
		args []string
		want string // ids; - means a build that is not in the file
	}{
		{"", nil, "api web tool"},
		{"", []string{"./cmd/api"}, "api"},
		{"", []string{"cmd/api/", "./other"}, "api -"},
		{"cmd/api", []string{"."}, "api"},
		{"cmd", []string{"../services/web/cmd/web"}, "web"},
		{"", []string{"./cmd/web"}, "-"},
		{"cmd", []string{"example.com/tool@v1"}, "tool"},
		{"", []string{filepath.Join(dir, "cmd/api")}, "api"},
	} {
		c, err := Load(Options{Dir: filepath.Join(dir, test.from), Lookup: lookup()})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, b := range c.Programs(test.args, PathOf) {
			if b.ID == "" {
				b.ID = "-"
			}
			ids = append(ids, b.ID)
		}
		if got := strings.Join(ids, " "); got != test.want {
			t.Errorf("in %q %q: %s, want %s", test.from, test.args, got, test.want)
		}
	}
}

// The file is found in the working directory or a directory above it, up to the nearest one
// with go.mod or .git.
func TestFind(t *testing.T) {
	dir := write(t, FileName, "repo: outside\n", "r/.git/HEAD", "", "r/"+FileName, "repo: root\n", "r/c/x", "", "r/m/go.mod", "", "r/m/cmd/a/x", "",
		"r/n/"+FileName, "repo: n\n", "lone/go.mod", "", "lone/cmd/x", "", "free/x", "")
	for at, want := range map[string]string{"r": "root", "r/m/cmd/a": "", "r/c": "root", "r/n": "n", "lone/cmd": "", "free": "", ".": "outside"} {
		c, err := Load(Options{Dir: filepath.Join(dir, at), Lookup: lookup()})
		if err != nil || c.Repo != want {
			t.Errorf("from %s: %v, %v, want %q", at, c, err, want)
		}
	}
}

// A file with a similar name is an error that has the right name, unless the right file is
// beside it, is found first, or the search ends before.
func TestMisnamedFile(t *testing.T) {
	dir := write(t, "r/go.mod", "", "r/mabuild.yaml", "repo: r\n", "r/sub/x", "", "r/both/.mabuild.yml", "", "r/both/"+FileName, "repo: both\n", "r/both/sub/x", "",
		"yml/go.mod", "", "yml/.mabuild.yml", "", "bare/go.mod", "", "bare/mabuild.yml", "", "bare/own/go.mod", "")
	for at, wrong := range map[string]string{"r": "mabuild.yaml", "r/sub": "../mabuild.yaml", "yml": ".mabuild.yml", "bare": "mabuild.yml", "r/both": "", "r/both/sub": "", "bare/own": ""} {
		t.Chdir(filepath.Join(dir, at))
		for _, keys := range []Keys{All, Access, NoFile} {
			_, err := Load(Options{Lookup: lookup(), Keys: keys})
			want := ""
			if wrong != "" && keys != NoFile {
				want = wrong + ": is not read: rename it to .mabuild.yaml"
			}
			if got := fmt.Sprint(err); (err == nil) != (want == "") || err != nil && got != want {
				t.Errorf("from %s: %s, want %q", at, got, want)
			}
		}
	}
}

// Paths are relative to the directory of the file that contains them.
func TestRelativePaths(t *testing.T) {
	dir := write(t, ".git/HEAD", "", FileName, "metadata_file: c\noutput: 'oci:o:v1'\nbase: oci-archive:b.tar\nregistries: {a.local: {ca_file: ca.pem}}\nbuilds: [{main: ./x, dir: d, files: [{from: f, to: /f}]}]\n", "sub/x", "")
	t.Chdir(filepath.Join(dir, "sub"))
	c, err := Load(Options{Lookup: lookup()})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.File, c.Dir, c.MetadataFile, c.Output[0], c.Base["default"], c.Registries["a.local"].CAFile, c.Builds[0].Dir, c.Builds[0].Main, c.Builds[0].Files[0].From}
	want := []string{"../.mabuild.yaml", "..", "../c", "oci:../o:v1", "oci-archive:../b.tar", "../ca.pem", "../d", "./x", "f"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Errors of file, environment and flags are reported together, with a hint.
func TestComplaints(t *testing.T) {
	dir := write(t, "f.yaml", "platfrms: []\n")
	file := filepath.Join(dir, "f.yaml")
	_, err := Load(Options{
		File: file, Flags: flagSet(t, "--platforms=linux/amd64,arm64", "--label=x"),
		Lookup: lookup("MABUILD_JOBS=many", "MABUILD_SBOM=spdxx", "MABUILD_TIMEOUT=1", "MABUILD_REGISTRIES=x"),
	})
	want := file + `:1: platfrms: unknown key; did you mean platforms?
env MABUILD_SBOM: "spdxx" is not one of none, spdx, cyclonedx; did you mean spdx?
env MABUILD_JOBS: must be a number, 0 or more
env MABUILD_TIMEOUT: must be a duration such as 90s, 1h30m or 3d
flag --platforms: platform "arm64": must be os/architecture[/variant]
flag --label: "x" must be KEY=VALUE`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	var problem *yamlconf.Problem
	if !errors.As(err, &problem) || hint.Of(err) != "write linux/arm64" {
		t.Errorf("problem %v, hint %v", problem, hint.Of(err))
	}
}

// A file that cannot be read or parsed is an error with its name.
func TestBadFiles(t *testing.T) {
	dir := write(t, FileName+"/in/the/way", "", "ids.yaml", "builds:\n- id: a\n- id: b\n- id: a\n")
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Dir: dir}, filepath.Join(dir, FileName) + ": is not a regular file"},
		{Options{File: filepath.Join(dir, "none.yaml")}, filepath.Join(dir, "none.yaml") + ": no such file or directory"},
		{Options{File: dir}, dir + ": is not a regular file"},
		{Options{File: filepath.Join(dir, "ids.yaml")}, filepath.Join(dir, "ids.yaml") + `:4: builds[2].id: "a" is a duplicate of line 2`},
	} {
		test.o.Lookup = lookup()
		if _, err := Load(test.o); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	if _, err := Load(Options{File: filepath.Join(dir, "none.yaml")}); errors.Is(err, fs.ErrNotExist) != true {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
}

// Every key has a description, its default passes its checks, and no two keys have the
// same flag or variable.
func TestFields(t *testing.T) {
	table.Defaults() // panics
	for key, f := range table.Keys() {
		if !strings.HasSuffix(f.Doc, ".") {
			t.Errorf("%s: description %q", key, f.Doc)
		}
	}
	seen := map[string]bool{}
	for _, f := range table.Leaves() {
		if seen[f.Flag] {
			t.Errorf("--%s belongs to two keys", f.Flag)
		}
		seen[f.Flag] = f.Flag != ""
	}
	for _, name := range table.Variables() {
		if seen[name] {
			t.Errorf("%s belongs to two keys", name)
		}
		seen[name] = true
	}
}

// The file that config init writes is valid.
func TestInit(t *testing.T) {
	dir := t.TempDir()
	text := string(Init())
	first, err := loadText(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Platforms) != 2 || first.Repo != "" {
		t.Errorf("%+v", first)
	}
	all := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAllString(text, "$1")
	second, err := loadText(t, dir, all)
	if err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	if second.Repo == "" || len(second.Builds) != 1 || len(second.Registries) != 1 || second.Image.User != "65532" {
		t.Errorf("%+v", second)
	}
}

// The short file of config init is valid, whatever the names of directories are, and has
// the same values as no file.
func TestStarter(t *testing.T) {
	programs := []Build{{Main: "."}, {Main: "./a: b # c"}, {Main: "./\"line\nbreak\"", ID: "no"}, {Main: "./" + strings.Repeat("long name ", 20), ID: "1"}}
	text := Starter("127.0.0.1:5000", "a comment", programs)
	got, err := loadText(t, t.TempDir(), string(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	none, err := loadText(t, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got.Repo != "127.0.0.1:5000" || !slices.Equal(got.Platforms, none.Platforms) || !slices.Equal(got.Tags, none.Tags) || got.Base.Default() != none.Base.Default() {
		t.Errorf("%+v", got.Settings)
	}
	if len(got.Builds) != len(programs) {
		t.Fatalf("%d programs\n%s", len(got.Builds), text)
	}
	for i, p := range programs {
		if b := got.Builds[i]; b.Main != p.Main || b.ID != p.ID {
			t.Errorf("%q with id %q, want %q with id %q", b.Main, b.ID, p.Main, p.ID)
		}
	}
	if lines := strings.Count(string(text), "\n"); lines > 10+2*len(programs) {
		t.Errorf("%d lines\n%s", lines, text)
	}
}

// Editors find the schema: the address in the file ends with its path in the repository.
func TestModeline(t *testing.T) {
	line, _, _ := strings.Cut(string(Init()), "\n")
	_, path, ok := strings.Cut(line, "# yaml-language-server: $schema=https://raw.githubusercontent.com/mabuild/mabuild/main/")
	if _, err := os.Stat(filepath.Join("../..", path)); !ok || err != nil {
		t.Errorf("%s: %v", line, err)
	}
	if short := string(Starter("r.io", "c", nil)); !strings.HasPrefix(short, line+"\n") {
		t.Errorf("the short file begins differently:\n%s", short)
	}
}

// The view, the file of config init and docs/mabuild.schema.json are up to date.
func TestGolden(t *testing.T) {
	dir := write(t, ".git/HEAD", "", FileName, sample+"registries: {a.local: {plain_http: true, mirrors: [c.d]}}\nfiles: [{from: x, to: /x}]\n")
	t.Chdir(dir)
	c, err := Load(Options{Lookup: lookup("MABUILD_REPO=r.io/x"), Flags: flagSet(t, "--ldflags=-s")})
	if err != nil {
		t.Fatal(err)
	}
	view, err := c.View()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(here)
	golden(t, "testdata/view.golden", view)
	golden(t, "testdata/init.golden", Init())
	golden(t, "../../docs/mabuild.schema.json", schema)
}

var here = func() string { dir, _ := os.Getwd(); return dir }()

// golden compares text with a file of the repository. With -update it writes the file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != string(got) {
		t.Errorf("%s is stale (%v): run go generate ./internal/config\n%s", path, err, got)
	}
}

// A variable may have the name of the key or of the flag.
func TestVariablesMayBeSpelledAsFlags(t *testing.T) {
	c, err := Load(Options{Dir: t.TempDir(), Lookup: lookup("MABUILD_PLATFORM=linux/arm64", "MABUILD_TAG=v1", "MABUILD_INSECURE_REGISTRY=registry.local", "MABUILD_BUILD_ENV=C=d", "MABUILD_ENV=C=d", "MABUILD_PORT=tcp://10.0.0.1:80")})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Platforms, []string{"linux/arm64"}) || !slices.Equal(c.Tags, []string{"v1"}) || !slices.Equal(c.InsecureRegistries, []string{"registry.local"}) {
		t.Errorf("platforms %v, tags %v, insecure %v", c.Platforms, c.Tags, c.InsecureRegistries)
	}
	if !slices.Equal(c.Env, []string{"C=d"}) || len(c.Image.Ports) > 0 { // Kubernetes sets MABUILD_PORT for a service
		t.Errorf("env %v, ports %v", c.Env, c.Image.Ports)
	}
	_, err = Load(Options{Dir: t.TempDir(), Lookup: lookup("MABUILD_BUILD_ENV=A=b", "MABUILD_ENV=C=d")})
	if err == nil || err.Error() != "env MABUILD_BUILD_ENV: contradicts MABUILD_ENV, which is the same setting" {
		t.Errorf("contradicting variables: %v", err)
	}
}

// An unknown variable that resembles a known one, or a flag, causes a warning. Other unknown
// variables are ignored.
func TestMisspeltVariables(t *testing.T) {
	environ := func() []string {
		return []string{
			"MABUILD_PLATFORNS=linux/amd64", "MABUILD_DRYRUN=1", "MABUILD_PLATFORMS=linux/arm64", "MABUILD_TAG=v1", "MABUILD_TAGGS=",
			"MABUILD_SERVICE_HOST=10.0.0.1", "MABUILD_PORT_80_TCP=x", "MABUILD_PORTS_PORT=1", "MABUILD_SOMETHING=1", "MABUILD_XX=1", "MABULD_TAG=v1",
			"MABUILD_REPOSITORY=r", "MABUILD_ONLY=api", "MABUILD_ONLYX=api",
		}
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("only", "", "")
	c, err := Load(Options{Dir: t.TempDir(), Lookup: lookup(), Environ: environ, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	want := "env MABUILD_DRYRUN is unknown and ignored; did you mean MABUILD_DRY_RUN?\nenv MABUILD_ONLY is ignored; use --only\nenv MABUILD_PLATFORNS is unknown and ignored; did you mean MABUILD_PLATFORMS?\nenv MABUILD_REPOSITORY is unknown and ignored; did you mean MABUILD_REPO?"
	if got := errors.Join(c.Ignored...); got == nil || got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
}

// A flag without a key can be set by a variable. The flag takes precedence.
func TestSwitch(t *testing.T) {
	f := pflag.NewFlagSet("push", pflag.ContinueOnError)
	dry, verify, file := f.Bool("dry-run", false, ""), f.Bool("verify", true, ""), f.String("config", "", "")
	if err := f.Parse([]string{"--verify=false"}); err != nil {
		t.Fatal(err)
	}
	if err := Switch(f, lookup("MABUILD_DRY_RUN=true", "MABUILD_VERIFY=true", "MABUILD_CONFIG=x.yaml", "MABUILD_REPORT=y")); err != nil {
		t.Fatal(err)
	}
	if !*dry || *verify || *file != "x.yaml" {
		t.Errorf("dry-run %v, verify %v, config %q", *dry, *verify, *file)
	}
	f = pflag.NewFlagSet("push", pflag.ContinueOnError)
	f.Bool("dry-run", false, "")
	if err := Switch(f, lookup("MABUILD_DRY_RUN=perhaps")); err == nil || !strings.HasPrefix(err.Error(), `env MABUILD_DRY_RUN: "perhaps" must be true or false`) {
		t.Errorf("%v", err)
	}
}

// Commands that do not build ignore errors in the settings of builds, but not in the rest.
func TestAccess(t *testing.T) {
	dir := write(t, FileName, "platforms: [arm64]\nnonsense: 1\nbuilds: 7\nregistries: {registry.local: {plain_http: true}}\njobs: 3\n")
	env := lookup("MABUILD_PLATFORMS=arm64")
	c, err := Load(Options{Dir: dir, Lookup: env, Keys: Access})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Registries["registry.local"].PlainHTTP || c.Jobs != 3 || len(c.Ignored) != 3 {
		t.Errorf("registries %v, jobs %v, ignored %v", c.Registries, c.Jobs, c.Ignored)
	}
	if _, err := Load(Options{Dir: dir, Lookup: env}); err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("a command that builds: %v", err)
	}
	for _, wrong := range []string{"registries: 7\n", "cache: {max: much}\n", "repo: [\n"} {
		dir := write(t, FileName, wrong)
		if _, err := Load(Options{Dir: dir, Lookup: env, Keys: Access}); err == nil {
			t.Errorf("%q was ignored", wrong)
		}
		if c, err := Load(Options{Dir: dir, Lookup: env, Keys: NoFile}); err != nil || len(c.Ignored) > 0 {
			t.Errorf("%q was read: %v", wrong, err)
		}
	}
}

// The variable of a flag that counts is true, false or a number.
func TestSwitchCounts(t *testing.T) {
	for text, want := range map[string]int{"true": 1, "false": 0, "1": 1, "2": 2, "0": 0, "-1": -1, "very": -1, "+1": -1, "300": -1} {
		f := pflag.NewFlagSet("push", pflag.ContinueOnError)
		n := f.CountP("verbose", "v", "")
		err := Switch(f, lookup("MABUILD_VERBOSE="+text))
		switch {
		case want >= 0 && (err != nil || *n != want):
			t.Errorf("%s: %d, %v", text, *n, err)
		case want < 0 && (err == nil || !strings.HasSuffix(err.Error(), " must be true, false or a number, 0 or more")):
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Flags and variables set the base image of all platforms and of single ones.
func TestBaseByFlag(t *testing.T) {
	parse := func(args ...string) *pflag.FlagSet {
		f := pflag.NewFlagSet("push", pflag.ContinueOnError)
		BindBuild(f)
		if err := f.Parse(args); err != nil {
			t.Fatal(err)
		}
		return f
	}
	const file = "base: {default: alpine, linux/arm: b}\n"
	for _, test := range []struct {
		args []string
		env  string
		file string
		want PerPlatform
		err  string
	}{
		{args: []string{"--base=linux/arm64=x"}, file: "base: alpine\n", want: PerPlatform{"default": "alpine", "linux/arm64": "x"}},
		{args: []string{"--base=linux/arm64=x"}, env: "MABUILD_BASE=linux/arm64=y,linux/s390x=z", file: file, want: PerPlatform{"default": "alpine", "linux/arm/v7": "b", "linux/arm64": "x", "linux/s390x": "z"}},
		{args: []string{"--base=linux/arm64=x"}, env: "MABUILD_BASE=scratch", file: file, want: PerPlatform{"default": "scratch", "linux/arm64": "x"}},
		{args: []string{"--base=default=x"}, file: file, want: PerPlatform{"default": "x"}},
		{file: "base: {linux/arm: b}\n", want: PerPlatform{"default": "static", "linux/arm/v7": "b"}},
		{args: []string{"--base=oci:img/a=b"}, want: PerPlatform{"default": "oci:img/a=b"}},
		{args: []string{"--base=linux/arm64=oci:img/a=b"}, want: PerPlatform{"default": "static", "linux/arm64": "oci:img/a=b"}},
		{file: "base: oci:img/a=b\n", want: PerPlatform{"default": "oci:img/a=b"}},
		{args: []string{"--base", "linux/arm64=scratch", "--base", "a.b/c@sha256:1"}, want: PerPlatform{"default": "a.b/c@sha256:1", "linux/arm64": "scratch"}},
		{args: []string{"--base=linux/arm=scratch,linux/arm64=x"}, want: PerPlatform{"default": "static", "linux/arm/v7": "scratch", "linux/arm64": "x"}},
		{env: "MABUILD_BASE=scratch,linux/arm64=static", want: PerPlatform{"default": "scratch", "linux/arm64": "static"}},
		{args: []string{"--base=a", "--base=b"}, err: `flag --base: "b" is a second value for default`},
		{args: []string{"--base=arm64=x"}, err: `flag --base: platform "arm64": must be os/architecture[/variant]`},
	} {
		t.Chdir(write(t, FileName, test.file))
		c, err := Load(Options{Lookup: lookup(test.env), Flags: parse(test.args...)})
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%v: %v, want %s", test.args, err, test.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(c.Base, test.want) {
			t.Errorf("%v %s: %v, %v", test.args, test.env, c, err)
		}
	}
}

// The base images of single platforms, in a build or by a flag, are added to those of the
// level above.
func TestBaseOfABuild(t *testing.T) {
	f := pflag.NewFlagSet("push", pflag.ContinueOnError)
	BindBuild(f)
	if err := f.Parse([]string{"--base=linux/s390x=z"}); err != nil {
		t.Fatal(err)
	}
	dir := write(t, FileName, `base: {default: alpine, linux/arm: b}
builds:
  - {main: ./one, base: {linux/arm64: y}}
  - {main: ./two, base: debian}
  - {main: ./three}
`)
	c, err := Load(Options{Dir: dir, Lookup: lookup(), Flags: f})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []PerPlatform{
		{"default": "alpine", "linux/arm/v7": "b", "linux/arm64": "y", "linux/s390x": "z"},
		{"default": "debian", "linux/s390x": "z"},
		{"default": "alpine", "linux/arm/v7": "b", "linux/s390x": "z"},
	} {
		if !reflect.DeepEqual(c.Builds[i].Base, want) {
			t.Errorf("%s: %v, want %v", c.Builds[i].Main, c.Builds[i].Base, want)
		}
	}
}

// A stop signal is a name or a number of Linux.
func TestSignals(t *testing.T) {
	for text, good := range map[string]bool{
		"SIGTERM": true, "term": true, "SIGRTMIN": true, "SIGRTMIN+3": true, "RTMAX-14": true, "1": true, "64": true,
		"SIGFOO": false, "0": false, "65": false, "-1": false, "SIGRTMIN+31": false, "SIGRTMIN-1": false, "TERM ": false, "": false,
	} {
		if err := Checks["signal"].Text(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
