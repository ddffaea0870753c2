package config

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
)

// Setting how C is compiled turns cgo on, unless cgo is turned off. The source with the
// highest precedence decides.
func TestCgo(t *testing.T) {
	for _, c := range []struct {
		name, file string
		args       []string
		env        map[string]string
		top, build Cgo
	}{
		{name: "nothing", file: "builds: [{id: a}]"},
		{name: "a boolean", file: "cgo: true\nbuilds: [{id: a}]", top: Cgo{Enabled: true}, build: Cgo{Enabled: true}},
		{name: "a map", file: "cgo: {toolchain: zig}\nbuilds: [{id: a}]", top: Cgo{Enabled: true, Toolchain: "zig"}, build: Cgo{Enabled: true, Toolchain: "zig"}},
		{name: "a map with enabled: false", file: "cgo: {toolchain: zig, enabled: false}\nbuilds: [{id: a}]", top: Cgo{Toolchain: "zig"}, build: Cgo{Toolchain: "zig"}},
		{name: "a map in a build", file: "cgo: false\nbuilds: [{id: a, cgo: {static: true}}]", build: Cgo{Enabled: true, Static: true}},
		{name: "false in a build", file: "cgo: {static: true}\nbuilds: [{id: a, cgo: false}]", top: Cgo{Enabled: true, Static: true}, build: Cgo{Static: true}},
		{name: "a flag", file: "builds: [{id: a}]", args: []string{"--cgo-static"}, top: Cgo{Enabled: true, Static: true}, build: Cgo{Enabled: true, Static: true}},
		{name: "a flag that turns it off", file: "cgo: {static: true}\nbuilds: [{id: a}]", args: []string{"--cgo=false"}, top: Cgo{Static: true}, build: Cgo{Static: true}},
		{name: "a variable", file: "builds: [{id: a}]", env: map[string]string{"MABUILD_CGO_TOOLCHAIN": "zig"}, top: Cgo{Enabled: true, Toolchain: "zig"}, build: Cgo{Enabled: true, Toolchain: "zig"}},
		{name: "the old variable", file: "builds: [{id: a}]", env: map[string]string{"MABUILD_CGO": "true"}, top: Cgo{Enabled: true}, build: Cgo{Enabled: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			load := func(args []string, env map[string]string) *Config {
				flags := pflag.NewFlagSet("", pflag.ContinueOnError)
				BindBuild(flags)
				if err := flags.Parse(args); err != nil {
					t.Fatal(err)
				}
				got, err := Load(Options{File: filepath.Join(dir, FileName), Dir: dir, Flags: flags, Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			write := func(text []byte) {
				if err := os.WriteFile(filepath.Join(dir, FileName), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write([]byte(c.file))
			got := load(c.args, c.env)
			check := func(what string, got, want Cgo) {
				if got.Enabled != want.Enabled || got.Static != want.Static || got.Toolchain != want.Toolchain {
					t.Errorf("%s: %+v, want %+v", what, got, want)
				}
			}
			check("top", got.Cgo, c.top)
			check("build", got.Builds[0].Cgo, c.build)
			view, err := got.View()
			if err != nil {
				t.Fatal(err)
			}
			write(view)
			again := load(nil, nil)
			check("the view's top", again.Cgo, c.top)
			check("the view's build", again.Builds[0].Cgo, c.build)
		})
	}
}

// The maps of cgo have normalized platforms as keys, and each invalid entry is an error with
// its line.
func TestCgoByPlatform(t *testing.T) {
	const file = `cgo:
  cc: {linux/arm: gcc, "linux/arm64/v8": clang}
  env: {linux/amd64: [TZ=UTC, GODEBUG=a=b]}
`
	c, _, err := decode(table, "f", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(c.Cgo.CC, map[string]string{"linux/arm/v7": "gcc", "linux/arm64": "clang"}) || len(c.Cgo.Env["linux/amd64"]) != 2 || !c.Cgo.Enabled {
		t.Errorf("%+v", c.Cgo)
	}
	_, _, err = decode(table, "f", []byte("cgo:\n  env:\n    linux/amd64: [TZ]\n    arm64: [A=b]\n    linux/arm: text\n"))
	want := "f:3: cgo.env[linux/amd64]: \"TZ\" must be KEY=VALUE\nf:4: cgo.env: platform \"arm64\": must be os/architecture[/variant]\nf:5: cgo.env[linux/arm/v7]: must be a list, for example [text], got \"text\""
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
