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

	"github.com/mabuild/mabuild/internal/gocommand"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/once"
	"github.com/mabuild/mabuild/internal/process"
	"github.com/mabuild/mabuild/internal/stream"
)

// A Go runs the go command. The zero value uses "go" on PATH and the environment of this
// process. The exported fields must not be changed after the first call. It is safe for
// concurrent use.
//
// The go command gets an allow-list of the environment. The settings of the user, from
// the environment or `go env -w`, are read once for each directory with `go env -json`.
// Those that say where modules and caches are reach the build as values. Those that would
// change the program do not.
type Go struct {
	Command string       // "": go
	Environ []string     // nil: this process's environment
	Log     *slog.Logger // nil: silent

	toolchains once.Memo[string, *toolchain] // by absolute directory; errors are not remembered
	dist       once.Memo[string, []string]   // supported platforms, by path of the go command
}

// A toolchain has the go command and the settings for one directory, as its go.mod, its
// go.work and the settings of the user choose them.
type toolchain struct {
	bin     string   // the go command that a toolchain line may have chosen
	version string   // go1.26.8
	flags   string   // the part of GOFLAGS that is kept
	env     []string // complete but for the platform; run adds only PWD
	said    Settings // from which the rest follows
}

// Settings are the values of `go env` in a directory that decide how the go command runs. Two
// that are equal give the same toolchain.
type Settings map[string]string

// with returns tc with more variables. They override those that tc has: the go command
// uses the last value of a variable.
func (tc *toolchain) with(env ...string) *toolchain {
	more := *tc
	more.env = slices.Concat(tc.env, env)
	return &more
}

// chosen are the variables of `go env -json` that choose the go command and its flags.
var chosen = []string{"GOROOT", "GOEXE", "GOVERSION", "GOWORK", "GOFLAGS"}

// settings are the variables of `go env -json` that a build gets as values.
var settings = []string{
	"GOAUTH", "GOCACHE", "GOCACHEPROG", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB",
	"GOPATH", "GOPRIVATE", "GOPROXY", "GOSUMDB", "GOVCS",
}

// passed are the variables of the environment that a build gets unchanged: those that
// find the files and the keys of the user, and those for the network.
var passed = []string{
	"HOME", "PATH", "USER", "LOGNAME", "NETRC", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS",
	"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_TERMINAL_PROMPT",
	// Credential helpers of git read these on CI machines.
	"GH_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN",
	// Windows cannot start a process without these.
	"SYSTEMROOT", "SystemRoot", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "COMSPEC", "ComSpec", "PATHEXT", "WINDIR",
}

// ErrNoGo is in the chain of an error if there is no go command.
var ErrNoGo = errors.New("go command not found")

// A noGo is the error of a missing go command; it matches ErrNoGo.
type noGo struct{ err error }

func (e *noGo) Error() string        { return "go: " + e.err.Error() }
func (e *noGo) Unwrap() error        { return e.err }
func (e *noGo) Is(target error) bool { return target == ErrNoGo }
func (e *noGo) Hint() string         { return "install Go and put it on PATH" }

// toolchain returns the toolchain for dir and remembers it.
func (g *Go) toolchain(ctx context.Context, dir string) (*toolchain, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return g.toolchains.Ensure(ctx, dir, func() (*toolchain, error) { return g.ask(ctx, dir) })
}

// ask runs `go env -json` in dir with the environment of the user. The go command applies
// go.mod, go.work, GOTOOLCHAIN and `go env -w`; the values that it prints are then fixed
// for all later commands, which run with GOENV=off and GOTOOLCHAIN=local.
func (g *Go) ask(ctx context.Context, dir string) (*toolchain, error) {
	path, environ, alone, err := g.start(dir)
	if err != nil {
		return nil, err
	}
	out, err := (&toolchain{bin: path, env: environ}).run(ctx, dir, "env", "-json")
	if err != nil {
		return nil, err
	}
	var env map[string]string
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("go env -json: %w", err)
	}
	said := Settings{}
	for _, name := range slices.Concat(chosen, settings) {
		if v := env[name]; v != "" {
			said[name] = v
		}
	}
	tc, dropped := g.fixed(dir, path, alone, said)
	if len(dropped) > 0 && g.Log != nil {
		g.Log.WarnContext(ctx, "ignored parts of GOFLAGS that change the result: "+strings.Join(dropped, " "))
	}
	return tc, nil
}

// start returns the go command that is asked for the settings of dir, and its environment. alone
// says that dir is a scratch module.
func (g *Go) start(dir string) (path string, environ []string, alone bool, err error) {
	command := g.Command
	if command == "" {
		command = "go"
	}
	if path, err = exec.LookPath(command); err != nil {
		return "", nil, false, &noGo{err}
	}
	environ = g.environ()
	_, alone = scratched(dir)
	foreign := false
	if !alone {
		if foreign, err = g.ofAnother(dir); err != nil {
			return "", nil, false, err
		}
	}
	// A go.work must not apply to a scratch module, nor one that another user has
	// created.
	if alone || foreign {
		environ = append(slices.Clone(environ), "GOWORK=off")
	}
	return path, environ, alone, nil
}

// fixed returns the toolchain of dir that follows from settings, and the dropped parts of GOFLAGS.
func (g *Go) fixed(dir, path string, alone bool, env Settings) (tc *toolchain, dropped []string) {
	// These settings are fixed for each build: no settings file, no other toolchain,
	// modules, no FIPS mode and no telemetry.
	tc = &toolchain{
		said:    env,
		bin:     filepath.Join(env["GOROOT"], "bin", "go"+env["GOEXE"]),
		version: env["GOVERSION"],
		env:     []string{"GOENV=off", "GOTOOLCHAIN=local", "GO111MODULE=on", "GOFIPS140=off", "GOTELEMETRY=off"},
	}
	// GOEXE is the suffix for the target, which may not be the host if the user has set
	// GOOS. So the path counts only if the file exists.
	if _, err := os.Stat(tc.bin); err != nil {
		tc.bin = path
	}
	for _, name := range settings {
		if v := env[name]; v != "" {
			tc.env = append(tc.env, name+"="+v)
		}
	}
	// A go.work above dir is found again by each command. Only off, or a file elsewhere,
	// has to be passed on.
	if work := env["GOWORK"]; work == "off" || work != "" && !strings.HasPrefix(dir+string(filepath.Separator), filepath.Dir(work)+string(filepath.Separator)) {
		tc.env = append(tc.env, "GOWORK="+work)
	}
	flags, dropped := gocommand.KeepFlags(env["GOFLAGS"])
	if alone {
		flags = standing(flags)
	}
	tc.flags, tc.env = flags, append(tc.env, "GOFLAGS="+flags)
	for _, kv := range g.environ() {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passed, name) || strings.HasPrefix(name, "GIT_CONFIG_") {
			tc.env = append(tc.env, kv)
		}
	}
	return tc, dropped
}

// Settings returns the settings of dir. The go command is asked once for each directory.
func (g *Go) Settings(ctx context.Context, dir string) (Settings, error) {
	tc, err := g.toolchain(ctx, dir)
	if err != nil {
		return nil, err
	}
	return tc.said, nil
}

// Asked returns the settings of dir, if the go command was asked for them; else nil.
func (g *Go) Asked(dir string) Settings {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	if tc, ok := g.toolchains.Get(dir); ok {
		return tc.said
	}
	return nil
}

// expected returns the toolchain of dir that follows from earlier settings. It is nil if these
// name another go command than the one that would be asked, or programs that this one starts.
func (g *Go) expected(dir string, earlier Settings) *toolchain {
	dir, err := filepath.Abs(dir)
	if err != nil || earlier["GOCACHEPROG"] != "" || earlier["GOAUTH"] != "" && earlier["GOAUTH"] != "netrc" {
		return nil
	}
	path, environ, alone, err := g.start(dir)
	// A go.work that another user has created meanwhile must not be used.
	if err != nil || alone || slices.Contains(environ, "GOWORK=off") && earlier["GOWORK"] != "off" {
		return nil
	}
	tc, _ := g.fixed(dir, path, alone, earlier)
	asked, err := os.Stat(path)
	runs, rerr := os.Stat(tc.bin)
	if err != nil || rerr != nil || !os.SameFile(asked, runs) {
		return nil
	}
	return tc
}

// ofAnother looks for a go.mod and a go.work above dir that another user has created in a
// directory that all users can write to, such as /tmp. The go command would take settings
// and code from them. A go.mod of another user that would be the module of dir is a
// [intree.Owned]. If work is true, the go.work must not be used.
func (g *Go) ofAnother(dir string) (work bool, err error) {
	module := false // whether the nearest go.mod was found
	for at := dir; ; at = filepath.Dir(at) {
		// Only the nearest go.mod is the module of dir. A go.work may be further up.
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

// environ returns the environment of the user.
func (g *Go) environ() []string {
	if g.Environ != nil {
		return g.Environ
	}
	return os.Environ()
}

// standing returns flags for a scratch module. Its go.mod must be updated as requirements
// are added, so -mod is always mod, whatever the modules of the user need.
func standing(flags string) string {
	kept := slices.DeleteFunc(strings.Fields(flags), func(flag string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		return name == "mod"
	})
	return strings.Join(append(kept, "-mod=mod"), " ")
}

// A CommandError says that a go command has failed.
type CommandError struct {
	Args   []string
	Output string // its standard error, at most 1 MiB
	Err    error
	Way    string // out, "" where none is known
	Field  string // of Request, if another value helps: Cgo (a package imports "C") or Flags (-X lacks an argument)
}

// Hint returns what the user can do.
func (e *CommandError) Hint() string { return e.Way }

func (e *CommandError) Error() string {
	if out := strings.TrimSpace(withoutUsage(e.Output)); out != "" {
		return out
	}
	return fmt.Sprintf("go %s: %v", e.Args[0], e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// answered reports whether `go list` ran to its end and rejected the package. Other exit
// codes mean that it could not read its settings, or was killed.
func (e *CommandError) answered() bool {
	var exit *exec.ExitError
	return e.Args[0] == "list" && errors.As(e.Err, &exit) && exit.ExitCode() == 1
}

// run runs the go command in dir and returns its standard output. When ctx ends, the
// whole process group is killed and the error is the cause of ctx. On Linux the go command
// also ends when this process ends in any way. A failed command is a [*CommandError].
func (tc *toolchain) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return tc.runLogged(ctx, io.Discard, dir, args...)
}

// runLogged is run with a writer that also gets standard error.
func (tc *toolchain) runLogged(ctx context.Context, log io.Writer, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tc.bin, args...) //nolint:gosec // argv only, no shell: the go command is what this package runs
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// The go command reads its directory from PWD, which may contain links. Without PWD
	// it would look for a go.work above the directory that the links lead to.
	cmd.Dir, cmd.Env = dir, append(slices.Clone(tc.env), "PWD="+dir)
	var out bytes.Buffer
	// A broken build can print without end. The start of the output has the first errors.
	complaint := &stream.Head{Max: 1 << 20}
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(complaint, log)
	process.Group(cmd)
	orphans(cmd.SysProcAttr)
	// On Linux the command is killed when the thread that started it ends. So this
	// goroutine keeps the thread until the command has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &CommandError{Args: args, Output: complaint.String(), Err: err, Way: wayOf(complaint.String())}
	}
	return out.Bytes(), nil
}
