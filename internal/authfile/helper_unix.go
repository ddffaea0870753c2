//go:build unix

package authfile

import (
	"os/exec"
	"syscall"
)

// asGroup makes the end of cmd's context kill the whole process group: a helper is often
// a shell script whose children would keep running.
func asGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
