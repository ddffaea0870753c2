//go:build !linux

package crosscompile

import "syscall"

// orphans does nothing: these systems have no such signal. If this process is killed, the
// go command runs until it has compiled.
func orphans(*syscall.SysProcAttr) {}
