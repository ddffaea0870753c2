//go:build unix

package authfile

import (
	"os/exec"
	"syscall"
)

// asGroup lets the end of cmd's context kill it and all that it started.
func asGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
