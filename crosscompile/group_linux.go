package crosscompile

import "syscall"

// orphans has the kernel kill the go command when the thread that started it ends,
// and with it this process, even by SIGKILL. A compiler that it runs finishes its
// one package.
func orphans(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
