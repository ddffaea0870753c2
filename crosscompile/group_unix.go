//go:build unix

package crosscompile

import (
	"os/exec"
	"syscall"
	"time"
)

// group starts cmd in a new process group. When its context ends, the whole group is
// killed: the go command and every compiler that it has started.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	orphans(cmd.SysProcAttr)
	// The group has the process ID of its first process; a negative ID is the whole group
	// (kill(2)).
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a process that left the group may hold the pipes
}
