package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/publish"
	"github.com/mabuild/mabuild/manifest/local"
)

// newRun returns the command run, which is build for this machine's architecture into
// Docker or podman, and then docker run.
func newRun(a *app) *cobra.Command {
	o := pushOptions{load: true}
	var runFlags []string
	cmd := &cobra.Command{
		Use:   "run [PACKAGE] [-- ARGS…]",
		Short: "Build a Go program for this machine and run its image",
		Long: `Build the image of a Go program for linux and the architecture of this machine, load
it into Docker, or into podman if Docker does not answer, and run it. ARGS are the
arguments of the program. The container is removed at the end. The exit code is that
of the program.`,
		Example: `  mabuild run ./cmd/app -- --version
  mabuild run ./cmd/web --run-flag=-p=8080:8080`,
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at > 1 || at < 0 && len(args) > 1 {
				return usage("mabuild run PACKAGE -- ARGS", "run takes one PACKAGE; arguments of the program come after --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.ArgsLenAtDash()
			if at < 0 {
				at = len(args)
			}
			o.packages = args[:at]
			asked := cmd.Flags().Lookup("platforms").Value.(pflag.SliceValue).GetSlice()
			switch here := "linux/" + runtime.GOARCH; {
			case len(asked) == 1 && asked[0] != "all" && !strings.HasPrefix(asked[0], here) && strings.HasPrefix(asked[0], "linux/"):
				return usage("omit --platforms; for another machine: mabuild build -o docker-daemon:platform="+asked[0]+" --platforms "+asked[0], "run builds for this machine, %s, not for %s", here, asked[0])
			case len(asked) == 0:
				if err := cmd.Flags().Set("platforms", here); err != nil {
					return err
				}
			}
			ctx := cmd.Context() // --timeout is for the build alone
			o.then = func(done []*publish.Result) error { return runImage(ctx, a, done, runFlags, args[at:]) }
			return runPush(cmd, a, o)
		},
	}
	o.one = true
	o.bind(cmd.Flags())
	o.bindPrebuilt(cmd.Flags())
	cmd.Flags().StringArrayVar(&runFlags, "run-flag", nil, "Pass this `FLAG` to docker run or podman run, for example -p=8080:8080")
	return cmd
}

// runImage runs the image of the only program. Standard input, output and error are those of
// mabuild. An exit code other than 0 is a [*programError].
func runImage(ctx context.Context, a *app, done []*publish.Result, flags, args []string) error {
	if len(done) != 1 || done[0] == nil {
		return usage("add --only ID, or name a PACKAGE", "run takes one program, got %d", len(done))
	}
	at := slices.IndexFunc(done[0].Outputs, func(o publish.Output) bool { return o.Place.Form == local.FormDockerDaemon })
	if at < 0 {
		return errors.New("the image was not loaded")
	}
	image := done[0].Outputs[at]
	command, err := image.Place.Command(ctx)
	if err != nil {
		return err
	}
	line := append([]string{"run", "--rm", "--interactive"}, flags...)
	if isTerminal(a.stdout) {
		line = append(line, "--tty")
	}
	line = append(append(line, image.Ref), args...)
	cmd := exec.CommandContext(ctx, command, line...) //nolint:gosec // the user's own arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	// A signal of the terminal reaches the command too. It passes it on to the program.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return &programError{command: command, code: exit.ExitCode()}
	}
	if err != nil {
		return &hint.Error{Err: fmt.Errorf("%s run: %w", command, err)}
	}
	return nil
}

// A programError is the end of a program that run has run, with its exit code.
type programError struct {
	command string
	code    int
}

func (e *programError) Error() string { return fmt.Sprintf("%s run: exit code %d", e.command, e.code) }
