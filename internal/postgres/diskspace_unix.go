//go:build unix

package postgres

import "golang.org/x/sys/unix"

// availableBytes returns the number of bytes that an unprivileged process may
// still write to the file system of a folder.
func availableBytes(folder string) (bytes int64, known bool) {
	var s unix.Statfs_t
	if unix.Statfs(folder, &s) != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
