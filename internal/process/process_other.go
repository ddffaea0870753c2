//go:build !unix

package process

import "os/exec"

// Group makes the end of the context kill cmd. There are no process groups here, so what it has
// started ends by itself.
func Group(cmd *exec.Cmd) { cmd.WaitDelay = delay }
