//go:build !linux

package build

import "io/fs"

// identify knows no file system here whose word it would take: the go command
// decides what is up to date.
func identify(fs.FileInfo) (identified, error) { return identified{}, errUnlisted }

func trusted(string) bool { return false }
