//go:build unix

package crosscompile

import (
	"os/exec"
	"syscall"
	"time"
)

// group gives cmd a process group of its own and lets the end of its context
// kill the whole of it: the go command and every compiler that it started.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	orphans(cmd.SysProcAttr)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a grandchild that left the group may hold the pipes
}
