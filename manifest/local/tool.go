package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/stream"
	"github.com/mabuild/mabuild/internal/text"
)

// This file runs the tools of daemons. A tool is fed through its standard input, so no
// temporary file is written, and it is killed when the context ends.

// A tool is the command of another program.
type tool struct {
	command  []string // empty: standard
	standard string
	way      string // hint if it is not installed
	failed   string // hint if it fails; may be empty
}

// Limits of a tool.
const (
	maxOutput = 64 << 10        // bytes of its output that are kept for the error
	toolGrace = 2 * time.Second // from its kill or exit until its pipes are closed
)

// probeTimeout is how long a daemon may take to answer. A command with a wrong host would
// wait much longer.
const probeTimeout = 5 * time.Second

// probe runs the tool with a command that asks the daemon for its version.
func (t tool) probe(ctx context.Context, args ...string) error {
	silent := hint.New(hint.Build, t.failed, "%s: no answer within %s", t.name(), probeTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, silent)
	defer cancel()
	return t.start(ctx, nil, args...)
}

// name returns the name of the command that is run.
func (t tool) name() string {
	if len(t.command) > 0 {
		return t.command[0]
	}
	return t.standard
}

// start runs the tool with the output of feed as its standard input, and returns when
// both have ended. Of several errors it returns the one that is the cause: the end of
// ctx, then a failure to read the image, then that of the tool.
func (t tool) start(ctx context.Context, feed func(io.Writer) error, args ...string) error {
	command := t.command
	if len(command) == 0 {
		command = []string{t.standard}
	}
	args = append(command[1:len(command):len(command)], args...)
	cmd := exec.CommandContext(ctx, command[0], args...) //nolint:gosec // the caller chooses the tool
	cmd.WaitDelay = toolGrace
	output := &stream.Head{Max: maxOutput}
	cmd.Stdout, cmd.Stderr = output, output
	// feed ends before the tool, or when the tool closes its input. If ctx ends, the tool
	// is killed, which closes its input.
	fed, err := t.feedTo(ctx, cmd, feed)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return hint.New(hint.Build, t.way, "%s is not installed", command[0])
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	feedErr := <-fed
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case feedErr != nil && !broken(feedErr):
		return feedErr
	case err != nil: // the tool failed and so stopped reading
		return hint.New(hint.Build, t.failed, "%s %s: %w%s", command[0], strings.Join(args, " "), err, tail(output.String()))
	case feedErr != nil: // the tool succeeded without reading the whole image
		return fmt.Errorf("%s %s: %w%s", command[0], strings.Join(args, " "), feedErr, tail(output.String()))
	}
	return nil
}

// feedTo starts the tool and a goroutine that feeds it. The channel gets one value when
// feed has ended and the input is closed.
func (t tool) feedTo(ctx context.Context, cmd *exec.Cmd, feed func(io.Writer) error) (<-chan error, error) {
	fed := make(chan error, 1)
	if feed == nil {
		fed <- nil
		return fed, cmd.Start()
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		err := feed(stream.WriteAlive(ctx, in))
		if err != nil && !broken(err) { // if the tool stopped reading, its own error says why
			_ = cmd.Process.Kill() // or it could take a cut input for a complete image
		}
		fed <- errors.Join(err, in.Close())
	}()
	return fed, nil
}

// broken reports whether the tool stopped reading.
func broken(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed) }

// tail returns ": " and the last line of output, safe for a terminal, or "".
func tail(output string) string {
	output = strings.TrimSpace(output)
	line := text.Line(output[strings.LastIndexByte(output, '\n')+1:], 512)
	if line == "" {
		return ""
	}
	return ": " + line
}
