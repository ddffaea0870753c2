//go:build unix

package claim

import "syscall"

// careful follows no link and waits for no pipe.
const careful = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
