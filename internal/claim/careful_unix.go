//go:build unix

package claim

import "syscall"

// careful are flags for opening a lock file: a symbolic link at the end of its path is an
// error, and opening a named pipe does not block.
const careful = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
