package crosscompile_test

import (
	"context"
	"debug/elf"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/crosscompile"
)

// write writes files to a new directory and returns its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const mainGo = "package main\n\nfunc main() { println(\"hi\") }\n"

// Compile writes a program for the requested platform, with its build info.
func TestCompile(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": mainGo})
	for text, want := range map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm/v6": elf.EM_ARM, "linux/s390x": elf.EM_S390} {
		out := filepath.Join(t.TempDir(), "app")
		b, err := new(crosscompile.Go).Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: out, Platform: parse(t, text)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.Open(b.Path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != want {
			t.Errorf("%s: machine %v", text, f.Machine)
		}
		f.Close()
		if b.Info.Main.Path != "example.com/app" {
			t.Errorf("build info of %q", b.Info.Main.Path)
		}
	}
}

// Settings of the user (go env -w, GOFLAGS, variables) do not change the program.
func TestCompileIgnoresTheHostsSettings(t *testing.T) {
	dir := write(t, map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": mainGo,
		"env": "GOAMD64=v3\nGOARM=5\nGOFLAGS=-toolexec=/bin/false\nGOEXPERIMENT=nodwarf5\n",
	})
	compile := func(environ ...string) []byte {
		out := filepath.Join(t.TempDir(), "app")
		g := &crosscompile.Go{Environ: append(os.Environ(), environ...)}
		if _, err := g.Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: out, Platform: parse(t, "linux/amd64")}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := compile("GOENV=off", "GOFLAGS=")
	odd := compile("GOENV="+filepath.Join(dir, "env"), "GOAMD64=v4", "CGO_ENABLED=1", "GOOS=plan9", "GOGCCFLAGS=-O0")
	if string(plain) != string(odd) {
		t.Error("the host's settings changed the program")
	}
}

// Compile logs the parts of GOFLAGS that it drops.
func TestCompileNamesWhatItDropsOfGOFLAGS(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": mainGo})
	var log strings.Builder
	g := &crosscompile.Go{
		Environ: append(os.Environ(), "GOENV=off", "GOFLAGS=-mod=mod -toolexec=/bin/false -trimpath"),
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	}
	if _, err := g.Targets(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "-toolexec=/bin/false") || strings.Contains(log.String(), "-mod=mod") || strings.Contains(log.String(), "-trimpath") {
		t.Errorf("the log says %q", log.String())
	}
}

// The error of a failed compile contains the compiler's message and position.
func TestCompileErrorIsTheCompilers(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { undefined() }\n"})
	_, err := new(crosscompile.Go).Compile(t.Context(), crosscompile.Request{Dir: dir, Package: ".", Out: filepath.Join(t.TempDir(), "app"), Platform: parse(t, "linux/amd64")})
	var ce *crosscompile.CommandError
	if !errors.As(err, &ce) || !strings.Contains(ce.Error(), "./main.go:3:15: undefined: undefined") {
		t.Errorf("got %v", err)
	}
}

// Compile ends when its context is cancelled, even if a child of the go command keeps the
// output open.
func TestCompileEndsWithItsContext(t *testing.T) {
	dir := write(t, map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": mainGo})
	// This go command answers "go env" and then hangs as a compiler might, with a child
	// that holds the output open.
	fake := filepath.Join(dir, "fake", "bin", "go")
	script := "#!/bin/sh\ncase $1 in env) echo '{\"GOROOT\":\"" + filepath.Join(dir, "fake") + "\"}';; *) sleep 1000 & echo $! >" + dir + "/child; wait;; esac\n"
	if err := os.MkdirAll(filepath.Dir(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go func() {
		for {
			if b, err := os.ReadFile(filepath.Join(dir, "child")); err == nil && len(b) > 0 {
				cancel(why)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	_, err := (&crosscompile.Go{Command: fake}).Compile(ctx, crosscompile.Request{Dir: dir, Package: ".", Out: filepath.Join(dir, "out"), Platform: parse(t, "linux/amd64")})
	if !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	for alive := true; alive; time.Sleep(5 * time.Millisecond) { // limited by the timeout of the test
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		alive = err == nil && !strings.Contains(string(stat), ") Z ")
	}
}

// A missing go command is ErrNoGo.
func TestNoGo(t *testing.T) {
	g := &crosscompile.Go{Command: filepath.Join(t.TempDir(), "go")}
	_, err := g.Targets(t.Context(), ".")
	if !errors.Is(err, crosscompile.ErrNoGo) {
		t.Errorf("got %v", err)
	}
}

// Check reports all unsupported platforms in one error.
func TestCheckNamesEveryPlatform(t *testing.T) {
	err := new(crosscompile.Go).Check(t.Context(), ".", []ocispec.Platform{
		parse(t, "linux/amd64"), parse(t, "linux/amd46"), parse(t, "linux/amd64/v7"), parse(t, "plan9/arm64"),
	}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"does not support linux/amd46", `no variant "v7" of linux/amd64`, "does not support plan9/arm64"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not contain %q", err, want)
		}
	}
}

// Targets returns the list of go tool dist list.
func TestTargetsAreGosOwn(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "tool", "dist", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	targets, err := new(crosscompile.Go).Targets(t.Context(), ".")
	if err != nil || len(targets) != len(strings.Fields(string(out))) {
		t.Errorf("%d targets, %v; go tool dist list has %d", len(targets), err, len(strings.Fields(string(out))))
	}
}
