// Mabuild builds Go programs for many platforms and publishes them as one image index. It
// also inspects, copies and combines images, and serves a registry for tests.
//
// The package has only commands: each reads flags and configuration, calls a library, and
// prints the result. Standard output has the result alone, one item per line or as JSON,
// and everything else goes to standard error. docs/cli.md documents output and exit
// codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/smoke"
)

// grace is the time that an interrupted run has to clean up.
const grace = 1500 * time.Millisecond

// main is run with the process's arguments, streams and exit.
func main() {
	smoke.Child()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code. If a signal ended the run, the
// error of the command is only a consequence, and the signal is reported instead.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	ctx, stop := interruptible(context.Background(), stderr, grace, a.sweep) //nolint:forbidigo // the root of all contexts
	defer stop()
	// close is called again below; this one covers a panic.
	defer a.close()
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if len(args) > 0 && args[0] == cobra.ShellCompRequestCmd {
		describe(root)
	}
	err := twoDashes(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	a.close() // removes the progress rows before the error is printed
	if err == nil {
		return 0
	}
	var i *interrupted
	if errors.As(context.Cause(ctx), &i) {
		report(stderr, i)
		return i.code()
	}
	if !as[*programError](err) { // the program has said what it has to say
		typed := args
		if a.config != nil {
			typed = append(slices.Clone(args), a.config.Repo)
		}
		report(stderr, err, typed...)
		if a.outcome != "" {
			_, _ = fmt.Fprintln(stderr, plainLines(a.outcome))
		}
	}
	return exitCode(err)
}

// newRoot returns the root command with all commands below it.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "mabuild",
		Short: "Build Go programs as multi-platform container images",
		Long: `mabuild cross-compiles Go programs, adds them to a base image for each platform
without a Docker daemon, and publishes the images under one tag.

  mabuild push ./cmd/app --platforms linux/amd64,linux/arm64 -t ghcr.io/acme/app:v1`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.enter(cmd.Flags()); err != nil {
				return err
			}
			// Variables set their flags here, before any command reads its options.
			if !explains(cmd) {
				if err := config.Switch(cmd.Flags(), os.LookupEnv); err != nil {
					return invalid(err)
				}
			}
			stop, err := a.profile.start()
			if err == nil {
				a.ends = append(a.ends, func() {
					if err := stop(); err != nil {
						_, _ = fmt.Fprintln(a.stderr, "profile: "+err.Error())
					}
				})
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(wrongFlag)
	root.SetUsageFunc(printUsage)
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	a.bind(root.PersistentFlags())
	root.AddCommand(
		newPush(a), newBuild(a), newRun(a), newWarm(a), newLock(a), newInspect(a, nil), newManifest(a), newMirror(a), newSBOM(a), newVerify(a), newCheck(a), newPlace(a), newResolve(a), newApply(a, "apply"), newApply(a, "create"), newWebhook(a), newTags(a), newTag(a), newDelete(a), newCatalog(a), newPlatforms(a), newRegistry(a),
		newConfig(a), newCache(a), newLogin(a), newLogout(a), newMan(a), newVersion(a),
	)
	helpful(root)
	a.complete(root)
	return root
}

// explains reports whether cmd only describes mabuild itself: help, completion, man, version,
// or a group of commands. An invalid variable in the environment does not stop these.
func explains(cmd *cobra.Command) bool {
	if cmd.HasSubCommands() || cmd.HasParent() && cmd.Parent().Name() == "completion" {
		return true
	}
	return slices.Contains([]string{"help", "man", "version", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, cmd.Name())
}

// helpful replaces cobra's help and completion commands, which accept unknown arguments
// without an error.
func helpful(root *cobra.Command) {
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return noCommand(cmd, strings.Join(rest, " "))
			}
			return cmd.Help()
		},
	})
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args, cmd.RunE = knownCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Args = noArgs
			}
		}
	}
}

// An interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal os.Signal }

// Error also states what the order of writes guarantees: a tag moves after all that it
// names.
func (e *interrupted) Error() string {
	return "interrupted (" + e.signal.String() + "): no tag points to an incomplete image"
}

// code returns the exit code by the convention of shells: 128 plus the number of the
// signal.
func (e *interrupted) code() int {
	if e.signal == syscall.SIGTERM {
		return 143
	}
	return 130
}

// interruptible returns a context that SIGINT or SIGTERM ends, with [*interrupted] as its
// cause. The run can then clean up and return. If it does not within grace, or if a
// second signal arrives, the process exits at once after sweep, which removes its work
// directory. The returned function ends the goroutine and must be called once.
func interruptible(parent context.Context, stderr io.Writer, grace time.Duration, sweep func()) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	// The buffer has room for both signals: package signal drops what it cannot deliver.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		var i *interrupted
		select {
		case s := <-signals:
			i = &interrupted{s}
			cancel(i)
		case <-done:
			return
		}
		select {
		case <-signals:
		case <-time.After(grace):
		case <-done:
			return
		}
		sweep()
		report(stderr, i)
		os.Exit(i.code())
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
