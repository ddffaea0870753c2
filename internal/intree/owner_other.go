//go:build !unix

package intree

import "io/fs"

const nonblocking = 0

// foreign is for systems whose temporary directories are a user's own.
func foreign(_, _ fs.FileInfo) bool { return false }

// Mine reports whether a file belongs to this process's user; the system has no
// answer here.
func Mine(fs.FileInfo) bool { return true }
