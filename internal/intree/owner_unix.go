//go:build unix

package intree

import (
	"io/fs"
	"os"
	"syscall"
)

// nonblocking keeps an open of a pipe from waiting for its writer.
const nonblocking = syscall.O_NONBLOCK

// self is this process's user.
var self = os.Geteuid

// foreign reports whether a file may be another user's doing.
func foreign(file, dir fs.FileInfo) bool {
	const group, others = 0o020, 0o002
	if dir.Mode().Perm()&(group|others) == 0 {
		return false
	}
	owner, ok := ownerOf(file)
	if !ok || owner == 0 || owner == self() {
		return false
	}
	above, ok := ownerOf(dir)
	return dir.Mode().Perm()&others != 0 || !ok || owner != above
}

func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// Mine reports whether a file belongs to this process's user.
func Mine(info fs.FileInfo) bool {
	uid, ok := ownerOf(info)
	return ok && uid == self()
}
