//go:build !linux

package unchanged

import (
	"io/fs"
	"time"
)

// identify always fails: no file system of this operating system is known to update the
// times of files reliably. So build records are not used, and the go command decides what
// is up to date.
func identify(fs.FileInfo) (identity string, changed time.Time, device uint64, err error) {
	return "", time.Time{}, 0, errUnlisted
}

// trusted is never true, as identify says.
func trusted(string) bool { return false }
