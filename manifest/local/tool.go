package local

import (
	"bytes"
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
	"github.com/mabuild/mabuild/internal/text"
)

// A tool is another program's command.
type tool struct {
	command  []string // empty: standard
	standard string
	way      string // out, where it is not installed
	failed   string // the way out where it fails, empty for none
}

// Bounds of what a tool may do to us.
const (
	maxOutput = 64 << 10        // bytes of its output that are kept
	toolGrace = 2 * time.Second // to end after it was told to
)

// probeTimeout is how long a daemon has to say that it is there.
const probeTimeout = 5 * time.Second

// probe runs the tool for what asks a daemon whether it is there.
func (t tool) probe(ctx context.Context, args ...string) error {
	silent := hint.New(hint.Build, t.failed, "%s: no answer within %s", t.name(), probeTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, silent)
	defer cancel()
	return t.start(ctx, nil, args...)
}

// name is the tool's, as it is run.
func (t tool) name() string {
	if len(t.command) > 0 {
		return t.command[0]
	}
	return t.standard
}

// start runs the tool with what feed writes as its standard input. An error of feed
// comes before what the tool makes of input that ends too early.
func (t tool) start(ctx context.Context, feed func(io.Writer) error, args ...string) error {
	command := t.command
	if len(command) == 0 {
		command = []string{t.standard}
	}
	args = append(command[1:len(command):len(command)], args...)
	cmd := exec.CommandContext(ctx, command[0], args...) //nolint:gosec // the caller chooses the tool
	cmd.WaitDelay = toolGrace
	output := &bounded{}
	cmd.Stdout, cmd.Stderr = output, output
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
	case err != nil: // feedErr follows from it
		return hint.New(hint.Build, t.failed, "%s %s: %w%s", command[0], strings.Join(args, " "), err, output.tail())
	case feedErr != nil: // it ended well, without having read the image
		return fmt.Errorf("%s %s: %w%s", command[0], strings.Join(args, " "), feedErr, output.tail())
	}
	return nil
}

// feedTo starts the tool and feeds it.
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
		err := feed(whileAlive{ctx, in})
		if err != nil && !broken(err) { // who stopped reading is about to say why
			_ = cmd.Process.Kill() // before it takes the end of the input for the end of the image
		}
		fed <- errors.Join(err, in.Close())
	}()
	return fed, nil
}

// broken reports whether the tool stopped reading.
func broken(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed) }

// whileAlive is a writer that ends with its context.
type whileAlive struct {
	ctx context.Context
	w   io.Writer
}

func (w whileAlive) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.w.Write(p)
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ b bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.b.Write(p[:min(len(p), max(0, maxOutput-b.b.Len()))])
	return len(p), nil
}

// tail returns ": " and the last line, without what could steer a terminal.
func (b *bounded) tail() string {
	all := strings.TrimSpace(b.b.String())
	line := text.Line(all[strings.LastIndexByte(all, '\n')+1:], 512)
	if line == "" {
		return ""
	}
	return ": " + line
}
