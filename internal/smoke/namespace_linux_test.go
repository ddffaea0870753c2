package smoke

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/hint"
)

// here is the platform of this machine.
var here = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}

// program returns the content of testdata/program, compiled once for this machine.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "mabuild-smoke-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/app", "./testdata/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "app"))
})

// app returns an image of the program, as an entry with a mode.
func app(t *testing.T, c v1.Config, mode int64, more ...tar.Header) v1.Image {
	t.Helper()
	raw, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c.Entrypoint = []string{"/app"}
	return imageOf(t, c, layer(t, append([]tar.Header{{Name: "app", Typeflag: tar.TypeReg, Linkname: string(raw), Mode: mode}}, more...)...))
}

// runner returns a runner in namespaces, whose directory must be empty in the end.
func runner(t *testing.T) *Runner {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return &Runner{Mode: Namespace, Dir: func(context.Context) (string, error) { return dir, nil }, Log: slog.New(slog.DiscardHandler)}
}

// Whatever a program does, its test ends in time and says why it failed.
func TestRun(t *testing.T) {
	t.Parallel()
	r := runner(t)
	for _, c := range []struct {
		what string
		test Test
		want string // in the error; "" passes
	}{
		{"no arguments", Test{}, ""},
		{"expected output", Test{Args: []string{"version"}, Expect: `v\d+\.\d+`}, ""},
		{"other output", Test{Args: []string{"version"}, Expect: "^v2"}, "smoke: the output does not match \"^v2\"; its output:\n  program " + runtime.GOARCH + " v1.2.3"},
		{"an exit code", Test{Args: []string{"exit"}}, "smoke: exit code 3, want 0; its output:\n  leaving with 3"},
		{"the expected code", Test{Args: []string{"exit"}, Exit: 3}, ""},
		{"a panic", Test{Args: []string{"panic"}}, "smoke: exit code 2, want 0; its output:\n  panic: in main"},
		{"a hang", Test{Args: []string{"hang"}, Timeout: 500 * time.Millisecond}, "smoke: it still ran after 500ms"},
		{"endless output", Test{Args: []string{"spam"}, Timeout: 500 * time.Millisecond}, "smoke: it still ran after 500ms"},
		{"a server", Test{Args: []string{"serve"}, Alive: 500 * time.Millisecond}, ""},
		{"a server that ends", Test{Args: []string{"version"}, Alive: 30 * time.Second}, "smoke: exit code 0, before 30s had passed"},
		{"children that stay", Test{Args: []string{"children"}}, ""},
	} {
		began := time.Now()
		result, err := r.Run(t.Context(), app(t, v1.Config{User: "65532"}, 0o755), here, c.test)
		switch {
		case c.want == "" && (err != nil || result.Status != Passed):
			t.Errorf("%s: %v, %v", c.what, result, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: got %v", c.what, err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s took %s", c.what, took)
		}
	}
}

// A program sees the image and nothing of the host, as the user of the image, also if that is
// root.
func TestIsolation(t *testing.T) {
	t.Parallel()
	for user, ids := range map[string]string{"": "uid=0 gid=0", "65532:65533": "uid=65532 gid=65533"} {
		img := app(t, v1.Config{User: user, Env: []string{"A=b"}, WorkingDir: "/srv/app"}, 0o755)
		_, err := runner(t).Run(t.Context(), img, here, Test{Args: []string{"where"}, Expect: "^$"})
		if err == nil {
			t.Fatal("no output")
		}
		for _, want := range []string{
			ids + " host=smoke dir=/srv/app env=[A=b PATH=", "outside=lstat /work: no such file or directory home=lstat /root: no such file or directory null=<nil> tmp=<nil> network=true",
			"processes=2", // the program and the one that started it
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("user %q: want %s in\n%v", user, want, err)
			}
		}
	}
}

// What is wrong with an image is told before or when its program starts.
func TestBadImages(t *testing.T) {
	t.Parallel()
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "s390x"
	}
	for what, c := range map[string]struct {
		img  v1.Image
		p    ocispec.Platform
		want string
	}{
		"a foreign program": {app(t, v1.Config{}, 0o755), ocispec.Platform{OS: "linux", Architecture: foreign}, `"/app": not an executable of the platform: it is `},
		"not executable":    {app(t, v1.Config{User: "65532"}, 0o644), here, "permission denied"},
		"missing":           {imageOf(t, v1.Config{Entrypoint: []string{"/none"}}, layer(t, dir("x"))), here, `"/none" is not in the image`},
		"empty":             {imageOf(t, v1.Config{Entrypoint: []string{"/app"}}, layer(t, file("app", ""))), here, "exec format error"},
		"no loader":         {imageOf(t, v1.Config{Entrypoint: []string{"/app"}}, layer(t, file("app", "#!/lib/ld-none.so\n"))), here, "no such file or directory"},
		"no entrypoint":     {imageOf(t, v1.Config{}, layer(t, dir("x"))), here, "the image has no entrypoint"},
	} {
		_, err := runner(t).Run(t.Context(), c.img, c.p, Test{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Links of an image in place of the directories that are mounted over lead nowhere.
func TestHostileDirectories(t *testing.T) {
	t.Parallel()
	img := app(t, v1.Config{User: "65532"}, 0o755, link("proc", "/etc"), link("dev", "/"), link("tmp", "/proc"))
	if _, err := runner(t).Run(t.Context(), img, here, Test{}); err != nil {
		t.Error(err)
	}
}

// An interrupt ends a test at once, with all that the program has started. The bound is that of a
// busy machine.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	img, r := app(t, v1.Config{User: "65532"}, 0o755), runner(t)
	if err := r.Check(ctx, []ocispec.Platform{here}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(500*time.Millisecond, func() { cancel(stop) })
	began := time.Now()
	_, err := r.Run(ctx, img, here, Test{Args: []string{"bomb"}, Timeout: time.Hour})
	if took := time.Since(began); !errors.Is(err, stop) || took > 15*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}

// A platform that cannot run here must be named to be skipped.
func TestSkip(t *testing.T) {
	t.Parallel()
	windows := ocispec.Platform{OS: "windows", Architecture: "amd64"}
	r := runner(t)
	err := r.Check(t.Context(), []ocispec.Platform{here, windows, windows})
	if !errors.Is(err, hint.Usage) || !strings.Contains(err.Error(), "this machine cannot run windows/amd64 (containers of windows are not started)") {
		t.Errorf("got %v", err)
	}
	r = runner(t)
	r.Skip = []ocispec.Platform{windows}
	if err := r.Check(t.Context(), []ocispec.Platform{here, windows}); err != nil {
		t.Error(err)
	}
	if result, err := r.Run(t.Context(), imageOf(t, v1.Config{}), windows, Test{}); err != nil || result.Status != Skipped {
		t.Errorf("%v, %v", result, err)
	}
}

// Without isolation a static program runs as well, and ends in time.
func TestDirect(t *testing.T) {
	t.Parallel()
	r := runner(t)
	r.Mode = Direct
	img := app(t, v1.Config{}, 0o755)
	if result, err := r.Run(t.Context(), img, here, Test{Args: []string{"version"}, Expect: "v1.2.3"}); err != nil || result.Status != Passed {
		t.Errorf("%v, %v", result, err)
	}
	for args, want := range map[string]string{"exit": "exit code 3", "hang": "it still ran after 500ms"} {
		_, err := r.Run(t.Context(), img, here, Test{Args: []string{args}, Timeout: 500 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// Another process has the file of a program open for writing when it is started, as one that
// was forked while the file was written.
func TestBusy(t *testing.T) {
	t.Parallel()
	raw, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for mode, run := range map[string]func(context.Context, command, *output) (ending, error){
		Direct: direct,
		Namespace: func(ctx context.Context, c command, out *output) (ending, error) {
			return isolated(ctx, c, os.Geteuid() == 0, out)
		},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(filepath.Join(dir, "app"), os.O_CREATE|os.O_WRONLY, 0o755)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Write(raw); err != nil {
				t.Fatal(err)
			}
			closed := make(chan error, 1)
			time.AfterFunc(50*time.Millisecond, func() { closed <- file.Close() })
			out := newOutput()
			end, err := run(t.Context(), command{Root: dir, Argv: []string{"/app", "version"}, Dir: "/"}, out)
			if err != nil || end != (ending{}) || !strings.Contains(out.first(), "v1.2.3") {
				t.Errorf("%+v, %v, %q", end, err, out.first())
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}
