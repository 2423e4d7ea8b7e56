//go:build unix

package fileio

import (
	"io/fs"
	"syscall"
)

// Flags of os.OpenFile.
const (
	// NoFollow makes opening a symbolic link an error. It concerns only the last element of the path.
	NoFollow = syscall.O_NOFOLLOW
	// nonBlock opens a named pipe or a device without waiting for it. It does not change how regular files are read.
	nonBlock = syscall.O_NONBLOCK
)

// Links returns the number of names (hard links) that a file has.
func Links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink)
	}
	return 1
}

// owner returns the user id of a file's owner.
func owner(info fs.FileInfo) (uid int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
