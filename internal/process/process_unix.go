//go:build unix

package process

import (
	"os/exec"
	"syscall"
)

// Group starts cmd in a process group of its own. When its context ends, the whole group is
// killed: a script and what it has started.
func Group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The group has the process ID of its first process; a negative ID is the whole group
	// (kill(2)).
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = delay // a process that left the group may hold the pipes
}
