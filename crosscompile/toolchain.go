package crosscompile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/once"
)

// Go drives the go command. The zero value uses "go" on PATH and this process's
// environment. It is safe for concurrent use.
//
// What the command sees of the environment is an allow-list. The user's own
// settings, from the environment or `go env -w`, are asked for once in each
// directory; those that say where modules and caches are go on as values, those
// that would change the output do not.
type Go struct {
	Command string       // "": go
	Environ []string     // nil: this process's environment
	Log     *slog.Logger // nil: silent

	toolchains once.Memo[string, *toolchain] // by directory
	dist       once.Memo[string, []string]   // by go command
}

// A toolchain is what one directory's go.mod, go.work and settings ask for.
type toolchain struct {
	bin     string   // the go command that toolchain lines chose
	version string   // go1.26.8
	flags   string   // what is kept of GOFLAGS
	env     []string // for its children, without the platform
}

// settings are the answers of `go env -json` that reach the build as values.
var settings = []string{
	"GOAUTH", "GOCACHE", "GOCACHEPROG", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB",
	"GOPATH", "GOPRIVATE", "GOPROXY", "GOSUMDB", "GOVCS",
}

// passed are the variables that reach the build as they are: where the person's
// files and keys are, and the way to the network.
var passed = []string{
	"HOME", "PATH", "USER", "LOGNAME", "NETRC", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS",
	"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_TERMINAL_PROMPT",
	// What git's credential helpers of the forges' own machines read.
	"GH_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN",
	// Windows cannot start a process without these.
	"SYSTEMROOT", "SystemRoot", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "COMSPEC", "ComSpec", "PATHEXT", "WINDIR",
}

// ErrNoGo is returned when there is no go command.
var ErrNoGo = errors.New("go command not found")

type noGo struct{ err error }

func (e *noGo) Error() string        { return "go: " + e.err.Error() }
func (e *noGo) Unwrap() error        { return e.err }
func (e *noGo) Is(target error) bool { return target == ErrNoGo }
func (e *noGo) Hint() string         { return "install Go and put it on PATH" }

// toolchain asks once what dir's toolchain is.
func (g *Go) toolchain(ctx context.Context, dir string) (*toolchain, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return g.toolchains.Ensure(ctx, dir, func() (*toolchain, error) { return g.ask(ctx, dir) })
}

// ask runs `go env -json` in dir, with the person's own environment.
func (g *Go) ask(ctx context.Context, dir string) (*toolchain, error) {
	command := g.Command
	if command == "" {
		command = "go"
	}
	path, err := exec.LookPath(command)
	if err != nil {
		return nil, &noGo{err}
	}
	environ := g.environ()
	_, alone := scratched(dir)
	foreign := false
	if !alone {
		if foreign, err = g.ofAnother(dir); err != nil {
			return nil, err
		}
	}
	if alone || foreign {
		environ = append(slices.Clone(environ), "GOWORK=off")
	}
	out, err := runGo(ctx, process{bin: path, dir: dir, env: environ, args: []string{"env", "-json"}})
	if err != nil {
		return nil, err
	}
	var env map[string]string
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("go env -json: %w", err)
	}
	tc := &toolchain{
		bin:     filepath.Join(env["GOROOT"], "bin", "go"+env["GOEXE"]),
		version: env["GOVERSION"],
		env:     []string{"GOENV=off", "GOTOOLCHAIN=local", "GO111MODULE=on", "GOFIPS140=off", "GOTELEMETRY=off"},
	}
	// GOEXE is the target's suffix, and the target is the host here unless the
	// person said otherwise; the file decides.
	if _, err := os.Stat(tc.bin); err != nil {
		tc.bin = path
	}
	for _, name := range settings {
		if v := env[name]; v != "" {
			tc.env = append(tc.env, name+"="+v)
		}
	}
	// A go.work that was found is left to be found, or not, each time.
	if work := env["GOWORK"]; work == "off" || work != "" && !strings.HasPrefix(dir+string(filepath.Separator), filepath.Dir(work)+string(filepath.Separator)) {
		tc.env = append(tc.env, "GOWORK="+work)
	}
	flags, dropped := keepFlags(env["GOFLAGS"])
	if alone {
		flags = standing(flags)
	}
	tc.flags, tc.env = flags, append(tc.env, "GOFLAGS="+flags)
	if len(dropped) > 0 && g.Log != nil {
		g.Log.WarnContext(ctx, "ignored parts of GOFLAGS that change the result: "+strings.Join(dropped, " "))
	}
	for _, kv := range g.environ() {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passed, name) || strings.HasPrefix(name, "GIT_CONFIG_") {
			tc.env = append(tc.env, kv)
		}
	}
	return tc, nil
}

// ofAnother looks for a go.mod and a go.work above dir that another user has put into a
// directory which all can write to. Such a go.mod, were it the module of dir, is an error
// ([intree.Owned]); with such a go.work the go command is to use none.
func (g *Go) ofAnother(dir string) (work bool, err error) {
	module := false // was found
	for at := dir; ; at = filepath.Dir(at) {
		if _, serr := os.Lstat(filepath.Join(at, "go.mod")); serr == nil && !module {
			module = true
			if err := intree.Owned(filepath.Join(at, "go.mod")); err != nil {
				return false, err
			}
		}
		if _, serr := os.Lstat(filepath.Join(at, "go.work")); serr == nil && g.lookup("GOWORK") == "" {
			return intree.Owned(filepath.Join(at, "go.work")) != nil, nil
		}
		if at == filepath.Dir(at) {
			return false, nil
		}
	}
}

func (g *Go) environ() []string {
	if g.Environ != nil {
		return g.Environ
	}
	return os.Environ()
}

// keepFlags keeps of GOFLAGS what says how to build and drops what would change
// the result or run programs. What mabuild sets itself is dropped unnamed.
func keepFlags(goflags string) (kept string, dropped []string) {
	var keep []string
	for _, flag := range strings.Fields(goflags) {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		switch name {
		case "mod", "tags", "p":
			keep = append(keep, flag)
		case "trimpath", "buildvcs", "modcacherw":
		default:
			dropped = append(dropped, flag)
		}
	}
	return strings.Join(keep, " "), dropped
}

// standing is flags for a module that requires what it needs as it goes, whatever the
// person's own modules do.
func standing(flags string) string {
	kept := slices.DeleteFunc(strings.Fields(flags), func(flag string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		return name == "mod"
	})
	return strings.Join(append(kept, "-mod=mod"), " ")
}

// A process is one run of the go command.
type process struct {
	bin  string
	dir  string
	env  []string
	args []string
	log  io.Writer // standard error as well, nil: kept for the error only
}

// A CommandError is a run of the go command that did not end well.
type CommandError struct {
	Args   []string
	Output string // what it wrote to standard error, as it is
	Err    error
	Way    string // out, "" where none is known
	Field  string // of Request, if another value helps: Cgo (a package imports "C") or Flags (-X lacks an argument)
}

// Hint returns the way out.
func (e *CommandError) Hint() string { return e.Way }

func (e *CommandError) Error() string {
	if out := strings.TrimSpace(withoutUsage(e.Output)); out != "" {
		return out
	}
	return fmt.Sprintf("go %s: %v", e.Args[0], e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// answered reports whether it was the go command that said no, about a package:
// it ran to its end, and its settings were known.
func (e *CommandError) answered() bool {
	var exit *exec.ExitError
	return e.Args[0] == "list" && errors.As(e.Err, &exit) && exit.ExitCode() == 1
}

// runGo runs p in a process group of its own, which it kills when ctx ends, and
// returns its standard output. On Linux the go command ends with this process,
// however that ends.
func runGo(ctx context.Context, p process) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.bin, p.args...) //nolint:gosec // argv only, no shell: the go command is what this package runs
	dir, err := filepath.Abs(p.dir)
	if err != nil {
		return nil, err
	}
	// The go command takes the way to its directory from PWD, through links; without
	// it another go.work than the person's own may stand above.
	cmd.Dir, cmd.Env = dir, append(slices.Clone(p.env), "PWD="+dir)
	var out bytes.Buffer
	complaint := &capped{max: 1 << 20}
	cmd.Stdout, cmd.Stderr = &out, complaint
	if p.log != nil {
		cmd.Stderr = io.MultiWriter(complaint, p.log)
	}
	group(cmd)
	// On Linux the command ends with the thread that started it, which is ours
	// alone, and waits, until the command has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &CommandError{Args: p.args, Output: complaint.String(), Err: err, Way: wayOf(complaint.String())}
	}
	return out.Bytes(), nil
}

// capped keeps the first max bytes written to it.
type capped struct {
	bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.Len(); room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
