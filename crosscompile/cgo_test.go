package crosscompile_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/elf"
	"github.com/mabuild/mabuild/internal/hint"
)

// Without settings, the C compiler of a platform is Debian's cross compiler, or zig if it
// is selected.
func TestCompilersAreDebiansAndZigs(t *testing.T) {
	for text, want := range map[string][2]string{
		"linux/arm/v5":         {"arm-linux-gnueabi-gcc", "zig cc -target arm-linux-gnueabi -mcpu=arm926ej_s"},
		"linux/arm/v6":         {"arm-linux-gnueabi-gcc", "zig cc -target arm-linux-gnueabihf -mcpu=arm1176jzf_s"},
		"linux/arm":            {"arm-linux-gnueabihf-gcc", "zig cc -target arm-linux-gnueabihf -mcpu=generic+v7a"},
		"linux/arm64/v8.2":     {"aarch64-linux-gnu-gcc", "zig cc -target aarch64-linux-gnu"},
		"linux/mips64le":       {"mips64el-linux-gnuabi64-gcc", "zig cc -target mips64el-linux-gnuabi64"},
		"linux/amd64/v3":       {"x86_64-linux-gnu-gcc", "zig cc -target x86_64-linux-gnu"},
		"windows/amd64:10.0.1": {"x86_64-w64-mingw32-gcc", "zig cc -target x86_64-windows-gnu"},
		"windows/arm64":        {"", "zig cc -target aarch64-windows-gnu"},
		"wasip1/wasm":          {"", ""},
	} {
		got := crosscompile.Compilers(parse(t, text))
		if got[crosscompile.GNU] != want[0] || got[crosscompile.Zig] != want[1] {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// The setting closest to a platform is used for its compiler: a variable before the map,
// and the platform with its variant before the one without.
func TestCgoUsesTheCompilerThatIsNamed(t *testing.T) {
	dir := write(t, map[string]string{
		"go.mod":  "module example.com/app\n\ngo 1.26\n",
		"main.go": "package main\n\n// int answer(void) { return ANSWER; }\nimport \"C\"\n\nfunc main() { println(int(C.answer())) }\n",
		"named":   "#!/bin/sh\nexec gcc -DANSWER=1 \"$@\"\n",
		"said":    "#!/bin/sh\nexec gcc -DANSWER=2 \"$@\"\n",
	})
	named, said := filepath.Join(dir, "named"), filepath.Join(dir, "said")
	for _, file := range []string{named, said} {
		if err := os.Chmod(file, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		cgo     crosscompile.Cgo
		environ []string
		want    string
	}{
		{"a map", crosscompile.Cgo{Toolchain: crosscompile.Custom, CC: map[string]string{"linux/amd64": named}}, nil, "1"},
		{"arguments", crosscompile.Cgo{CC: map[string]string{"linux/amd64": "gcc -DANSWER=3"}}, nil, "3"},
		{"a variable", crosscompile.Cgo{CC: map[string]string{"linux/amd64": named}}, []string{"CC_FOR_linux_amd64=" + said}, "2"},
		{"flags", crosscompile.Cgo{Env: map[string][]string{"linux/amd64": {"CGO_CFLAGS=-DANSWER=4"}}}, nil, "4"},
		{"static", crosscompile.Cgo{Env: map[string][]string{"linux/amd64": {"CGO_CFLAGS=-DANSWER=5", "CGO_LDFLAGS=-static"}}}, nil, "5"},
	} {
		g := &crosscompile.Go{Environ: append(os.Environ(), c.environ...)}
		p := parse(t, "linux/amd64")
		if err := g.Check(t.Context(), dir, []ocispec.Platform{p}, &c.cgo); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		out := filepath.Join(t.TempDir(), "app")
		if _, err := g.Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: out, Platform: p, Cgo: &c.cgo}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, err := exec.CommandContext(t.Context(), out).CombinedOutput()
		if err != nil || strings.TrimSpace(string(got)) != c.want {
			t.Errorf("%s: the program says %q, %v; want %s", c.name, got, err, c.want)
		}
		program, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		l, err := elf.ReadLinkage(bytes.NewReader(program))
		dynamic := c.name != "static"
		if err != nil || (l.Interpreter == "/lib64/ld-linux-x86-64.so.2") != dynamic || (l.Glibc != "") != dynamic || (len(l.Libraries) > 0) != dynamic {
			t.Errorf("%s: linkage %+v, %v", c.name, l, err)
		}
	}
}

// Check reports all missing compilers in one error, with a command that installs them.
func TestCheckNamesAllMissingCompilers(t *testing.T) {
	bin := t.TempDir() // contains go and no compiler
	if err := os.Symlink(goCommand(t), filepath.Join(bin, "go")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	list := []ocispec.Platform{parse(t, "linux/s390x"), parse(t, "linux/ppc64"), parse(t, "windows/arm64")}
	err := new(crosscompile.Go).Check(t.Context(), ".", list, &crosscompile.Cgo{CXX: map[string]string{"linux/s390x": "s390x-linux-gnu-g++"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"linux/s390x: s390x-linux-gnu-gcc is not installed", "linux/ppc64: Go does not support cgo for this platform", "windows/arm64: gnu has no C compiler for this platform"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not contain %q", err, want)
		}
	}
	if !strings.Contains(hint.Of(err), "apt-get install gcc-s390x-linux-gnu libc6-dev-s390x-cross;") || !strings.Contains(hint.Of(err), "CC_FOR_windows_arm64=") {
		t.Errorf("hint: %s", hint.Of(err))
	}
}

func goCommand(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
