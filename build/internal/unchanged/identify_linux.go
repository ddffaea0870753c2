package unchanged

import (
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"
)

// identify returns what identifies a version of a file, the time of the last change of its
// inode (ctime), and its device. Programs can set the modification time of a file but not
// its ctime, so a changed file never has the same identity on a file system of clocked.
func identify(info fs.FileInfo) (identity string, changed time.Time, device uint64, err error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", time.Time{}, 0, errUnlisted
	}
	identity = fmt.Sprintf("%d:%d %o %d %d %d", stat.Dev, stat.Ino, stat.Mode, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano())
	device = uint64(stat.Dev) //nolint:unconvert // narrower on some architectures
	return identity, time.Unix(stat.Ctim.Unix()), device, nil
}

// clocked has the file systems that update ctime with each change, in steps smaller than
// [granularity], and let no program set it (statfs(2), magic numbers). It does not have
// FAT, whose times have steps of two seconds and can be set. It does not have NFS, SMB,
// 9P and FUSE either: their times come from another machine or another program.
var clocked = []uint32{
	0xef53,     // ext2, ext3, ext4
	0x58465342, // XFS
	0x9123683e, // Btrfs
	0x2fc12fc1, // ZFS
	0xf2f52010, // F2FS
	0xca451a4e, // bcachefs
	0x01021994, // tmpfs
	0x858458f6, // ramfs
	0x794c7630, // overlayfs
}

// trusted reports whether the file system at path is one of clocked.
func trusted(path string) bool {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return false
	}
	return slices.Contains(clocked, uint32(stat.Type)) //nolint:gosec // of another width and sign on each architecture
}
