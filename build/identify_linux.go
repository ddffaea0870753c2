package build

import (
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"
)

// identify returns what changes whenever a file does, and when that was last.
// The time of the inode's change cannot be set by anybody.
func identify(info fs.FileInfo) (identified, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identified{}, errUnlisted
	}
	return identified{
		identity: fmt.Sprintf("%d:%d %o %d %d %d", stat.Dev, stat.Ino, stat.Mode, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano()),
		changed:  time.Unix(stat.Ctim.Unix()),
		device:   uint64(stat.Dev), //nolint:unconvert // narrower on some architectures
	}, nil
}

// clocked are the file systems that change an inode's time with each change, in
// steps below [granularity], and let nobody set it (statfs(2), magic numbers). Not
// among them are FAT, whose times have two seconds and can be set, and whatever lies
// on another machine or behind another program: NFS, SMB, 9P, FUSE.
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

// trusted reports whether the file system at path is one of them.
func trusted(path string) bool {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return false
	}
	return slices.Contains(clocked, uint32(stat.Type)) //nolint:gosec // of another width and sign on each architecture
}
