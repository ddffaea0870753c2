package crosscompile

import "syscall"

// orphans makes the kernel kill the go command when the thread that started it ends, also
// after SIGKILL of this process (PR_SET_PDEATHSIG). Compilers that the go command has
// started still finish their package.
func orphans(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
