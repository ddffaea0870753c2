//go:build !unix

package crosscompile

import (
	"os/exec"
	"time"
)

// group lets the end of cmd's context kill it. There are no process groups
// here: the compilers end when they have no parent to write to.
func group(cmd *exec.Cmd) { cmd.WaitDelay = time.Second }
