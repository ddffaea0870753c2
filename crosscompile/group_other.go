//go:build !unix

package crosscompile

import (
	"os/exec"
	"time"
)

// group makes the end of the context kill cmd. There are no process groups here, so the
// compilers that cmd has started end by themselves. WaitDelay bounds the wait for them.
func group(cmd *exec.Cmd) { cmd.WaitDelay = time.Second }
