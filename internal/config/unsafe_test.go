package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// What a file may say to the go command, its linker and its compiler. "" is fine;
// else what the complaint names.
var fileSays = []struct{ key, item, refused string }{
	{"env", "GOEXPERIMENT=jsonv2", ""},
	{"env", "GOARM64=v8.1", ""},
	{"env", "CGO_ENABLED=1", ""},
	{"env", "CC=gcc", ""},
	{"env", "CC=aarch64-linux-gnu-gcc-12", ""},
	{"env", "CXX=x86_64-w64-mingw32-g++", ""},
	{"env", "CC=./evil", "CC"},
	{"env", "CC=/tmp/gcc", "CC"},
	{"env", "CC=sh -c evil", "CC"},
	{"env", "CC=evil", "CC"},
	{"env", "GOFLAGS=-toolexec=./evil", "GOFLAGS"},
	{"env", "GOENV=./evil", "GOENV"},
	{"env", "GOCACHEPROG=./evil", "GOCACHEPROG"},
	{"env", "GOAUTH=./evil", "GOAUTH"},
	{"env", "GOROOT=./evil", "GOROOT"},
	{"env", "GOTOOLCHAIN=path", "GOTOOLCHAIN"},
	{"env", "GONOSUMDB=*", "GONOSUMDB"},
	{"env", "GOVCS=*:all", "GOVCS"},
	{"env", "CGO_CFLAGS=-fplugin=./evil.so", "CGO_CFLAGS"},
	{"env", "PKG_CONFIG=./evil", "PKG_CONFIG"},
	{"env", "LD_PRELOAD=./evil.so", "LD_PRELOAD"},
	{"env", "PATH=.", "PATH"},
	{"env", "GIT_SSH_COMMAND=evil", "GIT_SSH_COMMAND"},
	{"ldflags", "-X main.version={{.Version}} -buildid=", ""},
	{"ldflags", "-linkmode=external", ""},
	{"ldflags", "-extld=./evil", "-extld"},
	{"ldflags", "--extld ./evil", "--extld"},
	{"ldflags", "-s '-extldflags=-fplugin=./evil'", "-extldflags"},
	{"ldflags", "-o /home/me/.bashrc", "-o"},
	{"ldflags", "-cpuprofile=x", "-cpuprofile"},
	{"ldflags", "@evil", "@evil"},
	{"gcflags", "all=-N -l", ""},
	{"gcflags", "all=-o=/home/me/.bashrc", "-o"},
	{"gcflags", "-json=0,/tmp", "-json"},
	{"gcflags", "-toolexec=./evil", "-toolexec"},
}

func TestUnsafe(t *testing.T) {
	for _, one := range fileSays {
		quoted := "'" + strings.ReplaceAll(one.item, "'", "''") + "'"
		for where, text := range map[string]string{
			"top":      one.key + ": [" + quoted + "]\n",
			"build":    "builds:\n  - id: a\n    " + one.key + ": [" + quoted + "]\n",
			"override": "builds:\n  - id: a\n    overrides:\n      linux/amd64:\n        " + one.key + ": [" + quoted + "]\n",
		} {
			file := filepath.Join(t.TempDir(), FileName)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			load := func(lookup map[string]string, args ...string) error {
				flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
				BindBuild(flags)
				if err := flags.Parse(args); err != nil {
					t.Fatal(err)
				}
				_, err := Load(Options{File: file, Flags: flags, Lookup: func(k string) (string, bool) { v, ok := lookup[k]; return v, ok }})
				return err
			}
			err := load(nil)
			if (err == nil) != (one.refused == "") || err != nil && (!strings.Contains(err.Error(), ": "+one.refused) || strings.Count(err.Error(), "could") != 1) {
				t.Errorf("%s: %s %s: %v", where, one.key, one.item, err)
			}
			if err := load(nil, "--allow-unsafe-build-flags"); err != nil {
				t.Error(err)
			}
			if err := load(map[string]string{allowUnsafeEnv: "1"}); err != nil {
				t.Error(err)
			}
			flag := map[string]string{"env": "--build-env"}[one.key]
			if flag == "" {
				flag = "--" + one.key
			}
			if err := load(nil, flag, one.item); err != nil {
				t.Errorf("the person's own %s %s is refused: %v", flag, one.item, err)
			}
		}
	}
}
