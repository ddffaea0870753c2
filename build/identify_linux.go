package build

import (
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// identify returns what changes whenever a file does, and when that was last.
// The time of the inode's change cannot be set by anybody.
func identify(info fs.FileInfo) (identity string, changed time.Time, err error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", time.Time{}, errUnlisted
	}
	changed = time.Unix(stat.Ctim.Unix())
	identity = fmt.Sprintf("%d:%d %o %d %d %d", stat.Dev, stat.Ino, stat.Mode, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano())
	return identity, changed, nil
}
