package smoke

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mabuild/mabuild/internal/process"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// endDelay is the time that a program and its output have to end after they are killed.
const endDelay = time.Second

// direct runs a program without isolation. It must be static: it sees the files of the host.
func direct(ctx context.Context, c command, out *output) (ending, error) {
	cmd, err := started(func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(c.Root, c.Argv[0]), c.Argv[1:]...) //nolint:gosec // the user asks for it
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Root, c.Env, out, out
		process.Group(cmd)
		return cmd
	})
	if err != nil {
		return ending{Start: err.Error()}, nil
	}
	return endingOf(cmd.Wait())
}

// started starts the command that next returns, whose program was just written. A process that
// another goroutine starts at this moment has the file open, as this one had, until it runs its
// own program. Until then the kernel refuses to start the file, so the start is repeated.
func started(next func() *exec.Cmd) (*exec.Cmd, error) {
	for pause := time.Millisecond; ; pause *= 2 {
		cmd := next()
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || pause > endDelay {
			return cmd, err
		}
		time.Sleep(pause)
	}
}

// endingOf returns how a command ended that was started.
func endingOf(err error) (ending, error) {
	exit := (*exec.ExitError)(nil)
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return ending{}, nil
	case !errors.As(err, &exit):
		return ending{}, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return ending{Signal: status.Signal().String()}, nil
	}
	return ending{Exit: exit.ExitCode()}, nil
}

// contain loads an image into Docker or podman under a name of its own, runs it there without
// a network, and removes both.
func contain(ctx context.Context, command string, img v1.Image, p ocispec.Platform, t Test, out *output) (ending, error) {
	digest, err := img.Digest()
	if err != nil {
		return ending{}, err
	}
	name := fmt.Sprintf("mabuild-smoke-%s-%d", digest.Hex[:12], time.Now().UnixNano())
	place := local.Place{Form: local.FormDockerDaemon}
	sink, err := place.Sink()
	if err != nil {
		return ending{}, err
	}
	ref := "localhost/" + name + ":test"
	if err := sink.Put(ctx, ref, img); err != nil {
		return ending{}, err
	}
	defer func() {
		// The run may have been interrupted.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*endDelay)
		defer cancel()
		_ = exec.CommandContext(after, command, "rm", "--force", name).Run() //nolint:gosec // usually gone
		_ = exec.CommandContext(after, command, "rmi", "--force", ref).Run() //nolint:gosec // else an image stays
	}()
	args := append([]string{"run", "--rm", "--name", name, "--network", "none", "--platform", platform.Key(p), ref}, t.Args...)
	cmd := exec.CommandContext(ctx, command, args...) //nolint:gosec // docker or podman
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, endDelay
	return endingOf(cmd.Run())
}
