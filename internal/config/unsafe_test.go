package config

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// fileSays has values for the go command, the linker and the compiler. refused is the part
// that the error names; "" means that the value is accepted.
var fileSays = []struct{ key, item, refused string }{
	{"env", "GOEXPERIMENT=jsonv2", ""},
	{"env", "GOARM64=v8.1", ""},
	{"env", "CGO_ENABLED=1", ""},
	{"env", "CC=gcc", ""},
	{"env", "CC=aarch64-linux-gnu-gcc-12", ""},
	{"env", "CXX=x86_64-w64-mingw32-g++", ""},
	{"env", "TZ=Europe/Berlin", ""},
	{"env", "CGO_CFLAGS=-O2 -DNAME=1 -Wall -fno-strict-aliasing", ""},
	{"env", "CGO_LDFLAGS=-lm -Wl,-z,relro,-z,now", ""},
	{"env", "CC=./evil", "CC"},
	{"env", "CC=/tmp/gcc", "CC"},
	{"env", "CC=sh -c evil", "CC"},
	{"env", "CC=evil", "CC"},
	{"env", "GODEBUG=gofsystrace=1,gofsystracelog=../../.bashrc", "GODEBUG"},
	{"env", "TZ=/etc/passwd", "TZ"},
	{"env", "TZ=:/etc/passwd", "TZ"},
	{"env", "TZ=../../etc/passwd", "TZ"},
	{"env", "GOFIPS140=../evil", "GOFIPS140"},
	{"env", "GOFLAGS=-toolexec=./evil", "GOFLAGS"},
	{"env", "GOENV=./evil", "GOENV"},
	{"env", "GOCACHEPROG=./evil", "GOCACHEPROG"},
	{"env", "GOAUTH=./evil", "GOAUTH"},
	{"env", "GOROOT=./evil", "GOROOT"},
	{"env", "GOTOOLCHAIN=path", "GOTOOLCHAIN"},
	{"env", "GONOSUMDB=*", "GONOSUMDB"},
	{"env", "GOVCS=*:all", "GOVCS"},
	{"env", "GOCOVERDIR=/home/me", "GOCOVERDIR"},
	{"env", "GOTRACEBACK=crash", "GOTRACEBACK"},
	{"env", "CGO_CFLAGS=-fplugin=./evil.so", "CGO_CFLAGS"},
	{"env", "CGO_CFLAGS=-O2 -include /etc/passwd", "CGO_CFLAGS"},
	{"env", "CGO_CFLAGS=-Wa,-al=/home/me/x", "CGO_CFLAGS"},
	{"env", "CGO_CFLAGS=-O2 '-fplugin=x'", "CGO_CFLAGS"},
	{"env", "CGO_CFLAGS_ALLOW=.*", "CGO_CFLAGS_ALLOW"},
	{"env", "CGO_LDFLAGS=-Wl,-T,/etc/passwd", "CGO_LDFLAGS"},
	{"env", "CGO_LDFLAGS=-fuse-ld=./evil", "CGO_LDFLAGS"},
	{"env", "CGO_LDFLAGS=-lm,@evil", "CGO_LDFLAGS"},
	{"env", "PKG_CONFIG=./evil", "PKG_CONFIG"},
	{"env", "LD_PRELOAD=./evil.so", "LD_PRELOAD"},
	{"env", "PATH=.", "PATH"},
	{"env", "GIT_SSH_COMMAND=evil", "GIT_SSH_COMMAND"},
	{"ldflags", "-X main.version={{.Version}} -buildid=", ""},
	{"ldflags", "-X main.version={{ .Version }} -X main.at={{.Date}}", ""},
	{"ldflags", "-X 'main.text=two words' -s=true", ""},
	{"ldflags", "-linkmode=internal -extldflags '-static -s'", ""},
	{"ldflags", "-linkmode=external", "-linkmode"},
	{"ldflags", "--linkmode external", "-linkmode"},
	{"ldflags", `-X main.v={{"x -extld=./evil"}}`, ""}, // which no template may say: build refuses it
	{"ldflags", "{{.Branch}}=-s", "{{…}}"},
	{"ldflags", "{{.Branch}}", "{{…}}"},
	{"ldflags", "-{{.Branch}}", "-{{…}}"},
	{"ldflags", "-X {{.Branch}}=1", "-X"},
	{"ldflags", "-linkmode={{.Branch}}", "-linkmode"},
	{"gcflags", "-d={{.Branch}}", "-d"},
	{"env", "CC={{.Branch}}-gcc", "CC"},
	{"env", "TZ={{.Branch}}", "TZ"},
	{"env", "{{.Branch}}=x", "{{…}}"},
	{"ldflags", "-H windowsgui", ""},
	{"ldflags", "-extld=./evil", "-extld"},
	{"ldflags", "--extld ./evil", "--extld"},
	{"ldflags", "-s '-extldflags=-fplugin=./evil'", "-extldflags"},
	{"ldflags", "-extldflags '-static -Wl,-Map=/home/me/.bashrc'", "-extldflags"},
	{"ldflags", "-fipso=/home/me/.bashrc", "-fipso"},
	{"ldflags", "-o /home/me/.bashrc", "-o"},
	{"ldflags", "-cpuprofile=x", "-cpuprofile"},
	{"ldflags", "-benchmark=mem -benchmarkprofile=x", "-benchmarkprofile"},
	{"ldflags", "-capturehostobjs=x", "-capturehostobjs"},
	{"ldflags", "-X main.a=1 evil.a", "evil.a"},
	{"ldflags", "@evil", "@evil"},
	{"ldflags", "-of=x", "-of"},
	{"gcflags", "all=-N -l", ""},
	{"gcflags", "-l=4 -d=checkptr=0", ""},
	{"gcflags", "all=-o=/home/me/.bashrc", "-o"},
	{"gcflags", "-json=0,/tmp", "-json"},
	{"gcflags", "-toolexec=./evil", "-toolexec"},
	{"gcflags", "-d=dumpinlfuncprops=/home/me/.bashrc", "-d"},
	{"gcflags", "-d checkptr=0,dumpinlfuncprops=x", "-d"},
	{"gcflags", "-d=ssa/check_bce/dump=main", "-d"},
	{"gcflags", "-N /etc/passwd.go", "/etc/passwd.go"},
	{"gcflags", "-N '-o' x", "-o"},
}

// External linking needs cgo: it runs a C toolchain, which follows flags in object files of
// the tree.
func TestExternalLinkingNeedsCgo(t *testing.T) {
	const says = "ldflags: [--linkmode=external]\n"
	for text, fine := range map[string]bool{
		says: false, "cgo: true\n" + says: true, "cgo: true\nbuilds: [{cgo: false, ldflags: [-linkmode=external]}]\n": false,
		"builds: [{cgo: true, ldflags: [-linkmode=external]}]\n": true, "builds: [{cgo: {static: true}, overrides: {linux/amd64: {ldflags: [-linkmode=external]}}}]\n": true,
		"builds: [{cgo: true}, {ldflags: [-linkmode=external]}]\n": false,
	} {
		if _, err := loadText(t, t.TempDir(), text); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
	file := write(t, FileName, "cgo: true\n"+says)
	if _, err := Load(Options{Dir: file, Lookup: lookup(), Flags: buildFlags(t, "--cgo=false")}); err == nil {
		t.Error("external linking is accepted with --cgo=false")
	}
	file = write(t, FileName, says)
	if _, err := Load(Options{Dir: file, Lookup: lookup("MABUILD_CGO=true")}); err != nil {
		t.Error(err)
	}
}

// buildFlags returns the parsed flags of a command that builds.
func buildFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	BindBuild(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

// A flag in the file that could run a program or access files is refused at every level.
// The user can allow it, or set the same flag outside the file.
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
				_, err := Load(Options{File: file, Flags: buildFlags(t, args...), Lookup: func(k string) (string, bool) { v, ok := lookup[k]; return v, ok }})
				return err
			}
			err := load(nil)
			if (err == nil) != (one.refused == "") || err != nil && (!strings.Contains(err.Error(), ": "+one.refused) || strings.Count(err.Error(), "could run") != 1) {
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
				t.Errorf("%s %s on the command line is refused: %v", flag, one.item, err)
			}
		}
	}
}

// Items of a list are checked in the joined form that the go command gets.
func TestUnsafeJoined(t *testing.T) {
	for _, text := range []string{
		`gcflags: ["-N '", "-o x'"]`, `ldflags: [-X, main.a=1, -o, x]`, `ldflags: ["-X", "'main.a=1' -o x"]`, `gcflags: ["-d", "dumpinlfuncprops=x"]`,
	} {
		_, err := loadText(t, t.TempDir(), text+"\n")
		if !strings.Contains(hint.Of(err), "--"+allowUnsafe) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := loadText(t, t.TempDir(), "ldflags: [-X, main.a=1, '-X', 'main.b=2']\n"); err != nil {
		t.Error(err)
	}
}

// Each flag of the go tools is classified, so a Go release with new or removed flags fails
// this test.
func TestEveryToolFlagIsJudged(t *testing.T) {
	printed := regexp.MustCompile(`(?m)^  -(\S+)`)
	for tool, table := range toolFlags {
		out, _ := exec.CommandContext(t.Context(), "go", "tool", tool, "-help").CombinedOutput() // exits with 2
		var names []string
		for _, m := range printed.FindAllStringSubmatch(string(out), -1) {
			names = append(names, m[1])
		}
		if len(names) < 10 {
			t.Fatalf("go tool %s -help: %s", tool, out)
		}
		for _, name := range names {
			_, harmless := table.harmless[name]
			if refused := slices.Contains(table.refused, name); harmless == refused {
				t.Errorf("-%s of go tool %s is not classified, or twice: does it run a program, read or write a file?", name, tool)
			}
		}
		for name := range table.harmless {
			if !slices.Contains(names, name) {
				t.Errorf("go tool %s no longer has -%s", tool, name)
			}
		}
	}
}

// Each key has a trust level, and keys with paths, places and hosts have one
// that restricts them.
func TestEveryKeyIsJudged(t *testing.T) {
	var known []trust
	for _, one := range trusts {
		known = append(known, one.trust)
	}
	for key, f := range table.Keys() {
		rule := trust(f.Trust)
		switch {
		case !slices.Contains(known, rule):
			t.Errorf("%s has no trust level: may an untrusted file set it?", key)
		case f.Check == "path" && !slices.Contains([]trust{trustPath, trustPrivate, trustPeople}, rule):
			t.Errorf("%s is a path but its trust level does not restrict it", key)
		}
	}
}

// Each kind of setting that an untrusted file may not have is refused, and similar harmless
// settings are accepted.
func TestRefused(t *testing.T) {
	outside := t.TempDir()
	for _, test := range []struct {
		file, key string // the refused key; "" if the file is accepted
		is        error
	}{
		{"metadata_file: ../v", "metadata_file", intree.ErrOutside},
		{"metadata_file: dist/v", "", nil},
		{"metadata_file: " + outside + "/v", "metadata_file", intree.ErrOutside},
		{"metadata_file: out/v", "metadata_file", intree.ErrOutside},
		{"metadata_file: sub/../../v", "metadata_file", intree.ErrOutside},
		{"metadata_file: .git/config", "metadata_file", intree.ErrGit},
		{"metadata_file: .GIT/config", "metadata_file", intree.ErrGit},
		{"sbom_dir: ..", "sbom_dir", intree.ErrOutside},
		{"output: oci:../x", "output", intree.ErrOutside},
		{"output: [oci:x, 'oci-archive:out/x.tar']", "output", intree.ErrOutside},
		{"output: 'docker-daemon:'", "output", nil},
		{"output: [oci:x, 'oci-archive:x.tar:v1', 'oci-archive:-']", "", nil},
		{"base: oci:out/image", "base", intree.ErrOutside},
		{"base: {linux/arm64: 'containerd:'}", "base", nil},
		{"base: {linux/arm64: 'oci:image', default: alpine}", "", nil},
		{"builds: [{dir: proc, files: [{from: environ, to: /e}]}]", "builds[0].dir", intree.ErrOutside},
		{"builds: [{dir: ..}]", "builds[0].dir", intree.ErrOutside},
		{"builds: [{dir: .git}]", "builds[0].dir", intree.ErrGit},
		{"builds: [{main: ./out}]", "builds[0].main", intree.ErrOutside},
		{"builds: [{dir: sub, main: ../../x}]", "builds[0].main", intree.ErrOutside},
		{"builds: [{dir: sub, main: ../x}, {main: example.com/a@v1.0.0}, {main: ./...}]", "", nil},
		{"trust_realms: [localhost]", "trust_realms", nil},
		{"cache: {dir: c}", "cache.dir", nil},
		{"cache: {max: 0}", "cache.max", nil},
		{"ca_file: ca.pem", "ca_file", nil},
		{"client_key: key.pem", "client_key", nil},
		{"insecure_registries: [ghcr.io]", "insecure_registries", nil},
		{"insecure_registries: ['127.0.0.1:5000', 'localhost:5000', 'registry.local', '10.1.2.3', '[::1]:5000', 'registry:5000']", "", nil},
		{"insecure_registries: [2130706433]", "insecure_registries", nil},
		{"insecure_registries: [localhost.evil.example]", "insecure_registries", nil},
		{"registries: {ghcr.io: {plain_http: true}}", "registries[ghcr.io].plain_http", nil},
		{"registries: {ghcr.io: {skip_verify: true}}", "registries[ghcr.io].skip_verify", nil},
		{"registries: {ghcr.io: {ca_file: ca.pem}}", "registries[ghcr.io].ca_file", nil},
		{"registries: {a.local: {ca_file: out/ca.pem}}", "registries[a.local].ca_file", intree.ErrOutside},
		{"registries: {ghcr.io: {plain_http: false, mirrors: [a.b]}, a.local: {plain_http: true, ca_file: ca.pem}}", "", nil},
		{"cgo: {cc: {linux/arm64: ./evil}}", "cgo.cc", nil},
		{"cgo: {env: {linux/arm64: ['CGO_LDFLAGS=-fuse-ld=x']}}", "cgo.env", nil},
		{"cgo: {env: {linux/arm64: ['CGO_CFLAGS=-O2']}, cc: {linux/arm64: clang}}", "", nil},
	} {
		dir := write(t, ".git/HEAD", "", "sub/x", "", "x/main.go", "", "f.yaml", test.file+"\n")
		for link, to := range map[string]string{"out": outside, "proc": "/proc/self"} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		o := Options{File: filepath.Join(dir, "f.yaml"), Lookup: lookup()}
		_, err := Load(o)
		var p *yamlconf.Problem
		switch {
		case test.key == "" && err != nil:
			t.Errorf("%s: %v", test.file, err)
		case test.key != "" && (!errors.As(err, &p) || p.Key != test.key || p.Origin.Line != 1):
			t.Errorf("%s: %v", test.file, err)
		case test.is != nil && !errors.Is(err, test.is):
			t.Errorf("%s: %v, not %v", test.file, err, test.is)
		}
		if test.key == "" {
			continue
		}
		if _, err := Load(Options{File: o.File, Lookup: lookup(), Flags: buildFlags(t, "--allow-unsafe-build-flags")}); err == nil && !strings.HasPrefix(test.key, "cgo") {
			t.Errorf("%s: --allow-unsafe-build-flags allows it", test.file)
		}
		// config view shows the refused setting; commands that do not build ignore it.
		o.View = true
		c, err := Load(o)
		if err != nil || len(c.Refused) != 1 {
			t.Fatalf("%s: %v", test.file, err)
		}
		if view, err := c.View(); err != nil || strings.Count(string(view), ", refused: ") != 1 {
			t.Errorf("%s: %v\n%s", test.file, err, view)
		}
		c, err = Load(Options{File: o.File, Lookup: lookup(), Keys: Access})
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		if len(c.TrustRealms)+len(c.InsecureRegistries)+len(c.CAFile+c.ClientKey+c.Cache.Dir) > 0 || c.Registries["ghcr.io"].PlainHTTP || c.Registries["ghcr.io"].SkipVerify {
			t.Errorf("%s: the setting is used although the user did not allow it", test.file)
		}
		if access(test.key) && len(c.Ignored) != 1 {
			t.Errorf("%s: ignored %v", test.file, c.Ignored)
		}
	}
}

// The user's own file, flags and variables may set what a file in the tree may not.
func TestPeopleSay(t *testing.T) {
	home := write(t, ".config/mabuild/config.yaml",
		"trust_realms: [auth.example]\ncache: {dir: c}\ninsecure_registries: [plain.example]\nregistries: {ghcr.io: {mirrors: [mine.example], ca_file: ca.pem}, a.local: {skip_verify: true}}\n")
	dir := write(t, ".git/HEAD", "", FileName,
		"insecure_registries: [b.local]\nregistries: {ghcr.io: {mirrors: [theirs.example]}, a.local: {plain_http: true}, c.local: {plain_http: true}}\n")
	for _, keys := range []Keys{All, Access} {
		c, err := Load(Options{Dir: dir, Keys: keys, Lookup: lookup("HOME=" + home)})
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(home, ".config/mabuild")
		want := map[string]Registry{
			"ghcr.io": {Mirrors: []string{"mine.example"}, CAFile: filepath.Join(own, "ca.pem")}, "a.local": {SkipVerify: true}, "c.local": {PlainHTTP: true},
		}
		if !reflect.DeepEqual(c.Registries, want) || !slices.Equal(c.TrustRealms, []string{"auth.example"}) || c.Cache.Dir != filepath.Join(own, "c") || !slices.Equal(c.InsecureRegistries, []string{"b.local", "plain.example"}) {
			t.Errorf("%v: %+v", keys, c)
		}
		if got := c.Origin("trust_realms").String(); got != filepath.Join(own, "config.yaml")+":1" {
			t.Error(got)
		}
	}
	// Registry mirrors from the tree are used only for the base images of its builds.
	if err := os.RemoveAll(filepath.Join(home, ".config")); err != nil {
		t.Fatal(err)
	}
	for keys, want := range map[Keys]int{All: 1, Access: 0, NoFile: 0} {
		c, err := Load(Options{Dir: dir, Keys: keys, Lookup: lookup("HOME=" + home)})
		if err != nil || len(c.Registries["ghcr.io"].Mirrors) != want {
			t.Errorf("keys %v: %v, %v", keys, c, err)
		}
	}
	outside := t.TempDir()
	file := write(t, ".git/HEAD", "", "f.yaml", "metadata_file: "+outside+"/m\nldflags: [-o, x]\n")
	if _, err := Load(Options{File: file + "/f.yaml", Lookup: lookup("MABUILD_ALLOW_PATH=" + outside)}); err == nil || strings.Contains(err.Error(), "metadata_file") {
		t.Errorf("allowed by variable: %v", err)
	}
	if _, err := Load(Options{File: file + "/f.yaml", Lookup: lookup(), Flags: buildFlags(t, "--allow-path="+outside, "--ldflags=-o x")}); err != nil {
		t.Errorf("allowed by flag: %v", err)
	}
	if _, err := Load(Options{File: file + "/f.yaml", Lookup: lookup("MABUILD_METADATA_FILE=/x", "MABUILD_LDFLAGS=-o x")}); err != nil {
		t.Errorf("set by variables: %v", err)
	}
}

// The user's file may contain only settings for registries and this machine. It is ignored
// if it is inside the source tree.
func TestUserFile(t *testing.T) {
	dir := write(t, ".config/mabuild/config.yaml", "repo: a.b/c\njobs: 3\n", "tree/x", "")
	_, err := Load(Options{Dir: filepath.Join(dir, "tree"), Lookup: lookup("HOME=" + dir)})
	if err == nil || !strings.Contains(err.Error(), "config.yaml:1: repo: is a setting of programs; move it to .mabuild.yaml") {
		t.Error(err)
	}
	dir = write(t, ".git/HEAD", "", "home/.config/mabuild/config.yaml", "trust_realms: [evil.example]\n", FileName, "jobs: 2\n")
	c, err := Load(Options{Dir: dir, Lookup: lookup("HOME=" + dir + "/home")})
	if err != nil || len(c.TrustRealms) > 0 || len(c.Ignored) != 1 || !strings.Contains(c.Ignored[0].Error(), "is inside the source tree") {
		t.Errorf("%+v, %v", c, err)
	}
}

// No error quotes a file outside the tree to which the configuration file is a link.
func TestLinkedFile(t *testing.T) {
	secret := filepath.Join(write(t, "secret", "token=hunter2\n"), "secret")
	for _, to := range []string{secret, "/proc/self/environ", "../../../../../../../../" + secret} {
		dir := write(t, ".git/HEAD", "")
		if err := os.Symlink(to, filepath.Join(dir, FileName)); err != nil {
			t.Fatal(err)
		}
		_, err := Load(Options{Dir: dir, Lookup: lookup()})
		if !errors.Is(err, intree.ErrOutside) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", to, err)
		}
	}
	dir := write(t, ".git/HEAD", "", "conf/real.yaml", "jobs: 7\n")
	if err := os.Symlink("conf/real.yaml", filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(Options{Dir: dir, Lookup: lookup()}); err != nil || c.Jobs != 7 {
		t.Errorf("a link within the tree: %v, %v", c, err)
	}
}
