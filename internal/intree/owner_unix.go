//go:build unix

package intree

import (
	"io/fs"
	"os"
	"syscall"
)

// nonblocking makes the open of a pipe return at once instead of waiting for a writer.
const nonblocking = syscall.O_NONBLOCK

// self returns the user of this process.
var self = os.Geteuid

// foreign reports whether another user may have created a file in dir; see Owned.
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

// ownerOf returns the user ID of the owner of a file.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// Mine reports whether a file belongs to the user of this process.
func Mine(info fs.FileInfo) bool {
	uid, ok := ownerOf(info)
	return ok && uid == self()
}
